"""`leanrec recommend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from leanrec.cli.options import Flag, Json, Texts
from leanrec.cli.output import emit
from leanrec.core.console import format_table, say
from leanrec.core.errors import InputError

__all__ = ["recommend"]


def recommend(
    bundle: Path,
    /,
    *,
    user: str | None = None,
    history: Texts | None = None,
    everybody: Annotated[Flag, Parameter(name="--all")] = False,
    k: int = 10,
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Answer for a known user, a bare history, or every known user.

    Args:
        bundle: A bundle or a run folder.
        user: The id of a known user; an unknown one is answered with popular items.
        history: Item ids, oldest first.
        everybody: Every known user; needs --out.
        k: How many items.
        out: The file for --all: Parquet, CSV, JSON Lines or Arrow, by its ending.
    """
    from leanrec.jobs.recommend import RecommendJob, answer_one, recommend_all

    if (user is not None) + (history is not None) + everybody != 1:
        raise InputError("recommend needs exactly one of --user, --history and --all")
    if everybody != (out is not None):
        raise InputError("--all and --out FILE go together")
    if k < 1:
        raise InputError(f"--k {k} must be at least 1")
    job = RecommendJob(bundle=str(bundle), user=user, history=history, k=k, out=str(out) if out else None)
    if everybody:
        rows = len(recommend_all(job))
        return emit(f"{rows:,} rows in {out}", {"out": str(out), "rows": rows}, json)
    ranking, titles = answer_one(job)
    if ranking.degraded:
        say("nothing is known of this user or history: these are the popular items")
    answers = list(zip(ranking.item_ids, ranking.scores, ranking.sources, titles, strict=True))
    items = [
        {"item_id": item, "score": score, "source": source, "title": title} for item, score, source, title in answers
    ]
    rows_shown = [
        (str(rank), str(item), f"{score:.4f}", source, title or "")
        for rank, (item, score, source, title) in enumerate(answers, 1)
    ]
    table = format_table(
        ("rank", "item_id", "score", "source", "title"), rows_shown, text=("item_id", "source", "title")
    )
    return emit(table, {"items": items, "degraded": ranking.degraded}, json)
