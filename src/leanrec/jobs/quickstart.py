"""The whole path on one data set: get, prepare, train, measure, shrink, measure again, ask."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from leanrec.core.config import Config
from leanrec.core.console import format_table, say
from leanrec.core.ids import Id
from leanrec.core.nouns import Request
from leanrec.data.catalog import PUBLIC, load_public
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.evaluation.evaluate import Results, evaluate
from leanrec.jobs.compress import CompressJob, compress_bundle
from leanrec.jobs.recommend import titles
from leanrec.jobs.train import TrainJob, fit_into
from leanrec.runtime.recommender import Recommender

__all__ = ["Outcome", "QuickstartJob", "quickstart"]

BASELINES = ("popular", "popular-recent", "item-knn")
_METRIC = "ndcg@10"
_SHOWN = 5


class QuickstartJob(Config, frozen=True, kw_only=True):
    """What `leanrec quickstart` is told."""

    data: str = "ml-100k"
    """The name of a public data set, a log of events, or a prepared data set."""
    out: str = "quickstart"
    model: str = "esasrec"
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    seed: int = 0
    time_limit: float = 150.0
    """Seconds of training."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the quickstart found; every folder it wrote can be used with the other verbs."""

    seconds: dict[str, float]
    evaluation: dict[str, Any]
    compression: dict[str, Any]
    user: Id
    history: list[str]
    recommended: list[str]
    serve: str
    ask: str


class _Clock:
    """Names each step as it starts, and keeps how long it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        say(f"== {name}")
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        say(f"== {name}: {self.seconds[name]:.1f} s")


def quickstart(job: QuickstartJob, show: Callable[[str], None]) -> Outcome:
    """Carry out every step below `job.out`. show: receives the tables for a person as they are ready."""
    clock, out = _Clock(), Path(job.out)
    data = _get_data(job, out, clock)
    models = {}
    for name in (job.model, *BASELINES):
        with clock.step(f"train {name}"):
            models[name] = fit_into(_train_job(job, name, out), data)
    with clock.step("evaluate"):
        results = evaluate(models, data, k=(10,))
    show(_model_table(results, data))
    with clock.step("compress to int8"):
        compressed = compress_bundle(
            CompressJob(bundle=str(out / job.model), data=str(out / "data"), out=str(out / f"{job.model}-int8"))
        )
    show(f"{job.model} before and after int8, on the users that nothing was tuned on\n{compressed}")
    user, history, recommended = _ask(out / f"{job.model}-int8", data)
    show(_list_for_user(user, history, recommended))
    show(format_table(("step", "s"), [(name, f"{seconds:.1f}") for name, seconds in clock.seconds.items()]))
    serve, ask = _next_lines(out / f"{job.model}-int8", user)
    show(f"start the server:\n  {serve}\nask it from another terminal:\n  {ask}")
    return Outcome(
        seconds=clock.seconds, evaluation=results.to_dict(), compression=compressed.to_dict(), user=user,
        history=history, recommended=recommended, serve=serve, ask=ask,
    )  # fmt: skip


def _get_data(job: QuickstartJob, out: Path, clock: _Clock) -> Dataset:
    if (Path(job.data) / "dataset.json").exists():
        data = Dataset.load(job.data)
        data.save(out / "data")
        return data
    events: Any = job.data
    items, name = None, None
    if job.data in PUBLIC and not Path(job.data).exists():
        with clock.step(f"get {job.data}"):
            events, items = load_public(job.data)
        name = job.data
    with clock.step("prepare"):
        data = prepare(events, items=items, name=name, out=out / "data")
        say(str(data.report))
    return data


def _train_job(job: QuickstartJob, name: str, out: Path) -> TrainJob:
    own = name == job.model
    return TrainJob(
        model=name,
        data=str(out / "data"),
        out=str(out / name),
        settings=job.settings if own else {},
        seed=job.seed,
        time_limit=job.time_limit if own else None,
        refit=not own,  # all of the time goes into one training, kept at its best; baselines cost nothing to refit
    )


def _model_table(results: Results, data: Dataset) -> str:
    """Every model with its interval, and how it differs from the best baseline on the same users."""
    baselines = [row.model for row in results if row.model in BASELINES]
    best = max(baselines, key=lambda name: results[name].metrics[_METRIC])
    against = {pair.model: pair for pair in results.paired(best, [_METRIC])}
    rows = []
    for row in results:
        low, high = results.interval(row.model, _METRIC)
        pair = against.get(row.model)
        difference = (
            "" if pair is None else f"{pair.difference:+.4f} [{pair.interval[0]:+.4f}, {pair.interval[1]:+.4f}]"
        )
        rows.append((row.model, f"{row.metrics[_METRIC]:.4f}", f"[{low:.4f}, {high:.4f}]", difference))
    users = len(results.rows[0].users_B)
    return "\n".join(
        [
            f"{data.name}: the last item of {users:,} users, ranked among all {len(data.items):,}",
            format_table(("model", "NDCG@10", "95 % interval", f"against {best}, paired"), rows),
        ]
    )


def _ask(bundle: Path, data: Dataset) -> tuple[Id, list[str], list[str]]:
    """The first user with ten events or more: the end of the history by title, and what is recommended."""
    recommender = Recommender.load(bundle)
    known = data.known("test")
    user = data.users.ids([int((known.lengths >= 10).argmax())])[0]
    history = data.items.ids(known[data.users.row(user)][-_SHOWN:])
    ranking = recommender.answer([Request(user_id=user, k=_SHOWN)])[0]
    return user, _named(recommender, history), _named(recommender, ranking.item_ids)


def _named(recommender: Recommender, item_ids: Any) -> list[str]:
    return [title or str(item) for item, title in zip(item_ids, titles(recommender, item_ids), strict=True)]


def _list_for_user(user: Id, history: list[str], recommended: list[str]) -> str:
    return "\n".join(
        [
            f"user {user} last had",
            *(f"  {title}" for title in history),
            "and is recommended",
            *(f"  {place}. {title}" for place, title in enumerate(recommended, 1)),
        ]
    )


def _next_lines(bundle: Path, user: Id) -> tuple[str, str]:
    """The command that starts the server, and the one that asks it."""
    command = "leanrec" if shutil.which("leanrec") else ".venv/bin/leanrec"
    body = msgspec.json.encode({"user_id": str(user), "k": _SHOWN, "titles": True}).decode()
    ask = f"curl -s http://127.0.0.1:8000/v1/recommend -H 'Content-Type: application/json' -d '{body}'"
    return f"{command} serve {bundle}", ask
