"""Answers for one user, one history, or everybody, from a bundle on disk."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from leanrec.core.config import Config
from leanrec.core.console import step
from leanrec.core.errors import InputError
from leanrec.core.files import atomic_write
from leanrec.core.nouns import Ranking, Request
from leanrec.runtime.recommender import Recommender

__all__ = ["RecommendJob", "answer_one", "recommend_all"]

_WRITERS = {".parquet": "write_parquet", ".csv": "write_csv", ".jsonl": "write_ndjson", ".arrow": "write_ipc"}


class RecommendJob(Config, frozen=True, kw_only=True):
    """What `leanrec recommend` is told: one of `user` and `history`, or neither for every known user."""

    bundle: str
    user: str | None = None
    history: tuple[str, ...] | None = None
    k: int = 10
    out: str | None = None


def answer_one(job: RecommendJob) -> tuple[Ranking, list[str | None]]:
    """The ranking for the job's user or history, and the title of each answered item, where there is one."""
    recommender = Recommender.load(job.bundle)
    history = None if job.history is None else [recommender.items.parse(item) for item in job.history]
    ranking = recommender.answer([Request(user_id=job.user, history=history, k=job.k)])[0]
    return ranking, titles(recommender, ranking.item_ids)


def titles(recommender: Recommender, item_ids: Sequence[Any]) -> list[str | None]:
    """The title of each item, None where the bundle has none."""
    if recommender.attributes is None:
        return [None] * len(item_ids)
    return [recommender.attributes.title(int(row)) for row in recommender.items.rows(item_ids)]


def recommend_all(job: RecommendJob) -> pl.DataFrame:
    """A long table (user_id, item_id, score, rank) for every known user, written to `job.out`."""
    assert job.out is not None
    path = Path(job.out)
    writer = _WRITERS.get(path.suffix)
    if writer is None:
        raise InputError(f"--out {path} must end in one of {', '.join(_WRITERS)}")
    recommender = Recommender.load(job.bundle)
    if recommender.histories is None:
        raise InputError(f"{job.bundle} has no histories of known users beside it: name items with --history instead")
    with step(f"recommending to {len(recommender.histories.users()):,} users"):
        frame: pl.DataFrame = recommender.recommend(recommender.histories.users(), k=job.k)
        content = io.BytesIO()
        getattr(frame, writer)(content)
        atomic_write(path, content.getvalue())
    return frame
