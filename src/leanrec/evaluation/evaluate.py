"""How good recommenders are: full rankings for held-out users, through the same Recommender that serves.

Rules: every model is asked about the same users with the same histories (docs/architecture.md says which). Whether seen
items may be answered is the data set's protocol, unless overridden; where they may not, a target already in the history
does not count as relevant. Users without targets are left out. Values are kept per user, so that models can be paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.console import Progress
from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.data.dataset import Cases, Dataset, Part, Users
from leanrec.evaluation.beyond import beyond, item_sets
from leanrec.evaluation.metrics import CATALOGUE, PER_USER, Exposure, Metric, per_user
from leanrec.evaluation.results import Result, Results
from leanrec.evaluation.slices import SliceResult, judge_slice, slices_of
from leanrec.evaluation.tables import read_lists
from leanrec.runtime.recommender import Recommender

__all__ = ["Result", "Results", "evaluate"]

_BLOCK = 4096
Answers = Callable[[int, int], npt.NDArray[np.int32]]


def evaluate(
    models: Any,
    data: Dataset,
    *,
    on: Part = "test",
    k: int | Iterable[int] = (10,),
    users: Users = "all",
    include_seen: bool | None = None,
    details: bool = False,
    slices: Iterable[str] = (),
    limit: int | None = None,
) -> Results:
    """Judge models on held-out events; one result per model, in their order.

    models: a Recommender, a table of recommendations from elsewhere (a frame or a file with user_id, item_id and rank
    or score), the path of a bundle or run folder, or a list of those, or a dict by name. k: lengths of list. users:
    "all", or only those that "tune" or "certify". include_seen: None for what the data set's protocol says. details:
    also judge slices of users and items (`slices`), and lists beyond being right (`beyond`). slices: columns of users'
    or items' attributes to slice by, too. limit: ask at most so many users, drawn at random but always the same; those
    of a smaller limit are among those of a larger one.
    InputError when nobody has targets.
    """
    ks = _lengths(k)
    include = data.protocol.repeats if include_seen is None else include_seen
    cases = data.cases(on, users, include_seen=include)
    if not len(cases):
        who = "" if users == "all" else f" among the users that {users}"
        raise InputError(
            f"{data.name} has nobody to evaluate on {on}{who}: prepare it with another split, or more data"
        )
    if limit is not None and limit < len(cases):
        some = np.sort(np.random.default_rng(0).permutation(len(cases))[:limit])
        cases = Cases(cases.users[some], cases.histories.take(some), cases.targets.take(some))
    popularity_N = np.bincount(data.train().values, minlength=len(data.items))
    columns = tuple(slices)
    extra = _Details(data, cases, ks, columns, include, popularity_N) if details or columns else None
    results = []
    for name, model in _named(models):
        answers, notes = _answers(model, data, cases, on, max(ks), include)
        with closing(Progress(f"evaluating {name}", len(cases))) as progress:
            exposure = Exposure(popularity_N, ks, ~data.items.erased)
            values, metrics, items_BK = _judge(answers, cases, ks, exposure, progress)
        parts: list[SliceResult] = []
        if extra is not None:
            metrics |= extra.beyond(items_BK)
            parts = extra.sliced(items_BK)
        results.append(
            Result(model=name, on=on, users_B=cases.users, values=values, metrics=metrics, notes=notes, slices=parts)
        )
    return Results(results)


class _Details:
    """What is asked of every model beside its metrics over all users."""

    def __init__(
        self, data: Dataset, cases: Cases, ks: list[int], columns: tuple[str, ...], include_seen: bool,
        popularity_N: npt.NDArray[np.int64],
    ) -> None:  # fmt: skip
        self._cases, self._ks, self._popularity_N, self._include_seen = cases, ks, popularity_N, include_seen
        self._slices, self._sets = slices_of(data, cases, columns), item_sets(data)

    def beyond(self, items_BK: npt.NDArray[np.int32]) -> dict[str, float]:
        return beyond(items_BK, self._cases, self._popularity_N, self._ks, self._sets, include_seen=self._include_seen)

    def sliced(self, items_BK: npt.NDArray[np.int32]) -> list[SliceResult]:
        metrics = [Metric(name, k) for k in self._ks for name in PER_USER]
        found = [judge_slice(one, items_BK, self._cases, metrics) for one in self._slices]
        return [one for one in found if one is not None]


def _judge(
    answers: Answers, cases: Cases, ks: list[int], exposure: Exposure, progress: Progress
) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, float], npt.NDArray[np.int32]]:
    """Values per user, all metrics of the model, and its lists."""
    blocks, lists = [], []
    for start in range(0, len(cases), _BLOCK):
        stop = min(start + _BLOCK, len(cases))
        items_BK = answers(start, stop)
        exposure.add(items_BK)
        lists.append(items_BK)
        blocks.append(
            per_user(items_BK, cases.targets.slice(start, stop), [Metric(m, k) for k in ks for m in PER_USER])
        )
        progress.advance(stop - start)
    values = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    metrics = {name: float(values_B.mean()) for name, values_B in values.items()}
    metrics |= exposure.values(Metric(m, k) for k in ks for m in CATALOGUE)
    return values, metrics, np.concatenate(lists)


def _lengths(k: int | Iterable[int]) -> list[int]:
    ks = [k] if isinstance(k, int) else list(k)
    for one in ks:
        if not isinstance(one, int) or one < 1:
            raise InputError(f"k is the length of a list of recommendations, at least 1, not {one!r}")
    if not ks:
        raise InputError("k names no length of list: say for example k=10")
    return sorted(set(ks))


def _named(models: Any) -> Iterator[tuple[str, Any]]:
    """Each model with a name of its own."""
    if isinstance(models, Mapping):
        yield from ((str(name), model) for name, model in models.items())
        return
    taken: dict[str, int] = {}
    for model in models if isinstance(models, list | tuple) else [models]:
        name = model.source.name if isinstance(model, Recommender) else str(model) if _is_path(model) else "table"
        taken[name] = taken.get(name, 0) + 1
        yield (name if taken[name] == 1 else f"{name} ({taken[name]})"), model


def _is_path(model: Any) -> bool:
    return isinstance(model, str | Path)


def _answers(
    model: Any, data: Dataset, cases: Cases, on: Part, k: int, include_seen: bool
) -> tuple[Answers, list[str]]:
    """How to get the lists of users start..stop, and what has to be said about them."""
    if _is_path(model) and Path(model).is_dir():
        model = Recommender.load(model)
    if isinstance(model, Recommender):
        times = data.known_times(on) if model.source.timed else None
        when = None if times is None else times.take(cases.users)
        return _ask(model, data, cases, when, min(k, len(model.items)), include_seen)
    items_BK, notes = read_lists(model, data, cases, k)
    if not include_seen:
        seen = _count_seen(items_BK, cases.histories)
        if seen:
            notes.append(f"{seen:,} recommended items were already in the user's history: they count as misses")
    return (lambda start, stop: items_BK[start:stop]), notes


def _ask(
    model: Recommender, data: Dataset, cases: Cases, times: Jagged | None, k: int, include_seen: bool
) -> tuple[Answers, list[str]]:
    """The model's lists in rows of `data`, whatever rows it uses itself. What it knows alone is an empty place."""
    same = model.items is data.items or model.items == data.items
    users = None if model.users is None else _user_rows(model, data, cases)
    notes = []
    if not same:
        to_model = model.items.rows(data.items.ids())
        to_data = np.append(data.items.rows(model.items.ids()), np.int32(-1))  # so that -1 stays -1
        notes.append(f"{int((to_model < 0).sum()):,} of {len(data.items):,} items are unknown to the model")

    degraded = 0

    def answers(start: int, stop: int) -> npt.NDArray[np.int32]:
        nonlocal degraded
        histories = cases.histories.slice(start, stop)
        when = None if times is None else times.slice(start, stop)
        if not same:
            known = Jagged(to_model[histories.values], histories.offsets)
            histories = known.where(known.values >= 0)
            when = None if when is None else when.where(known.values >= 0)
        who = None if users is None else users[start:stop]
        hits, degraded_B = model.rank(histories, k, include_seen=include_seen, times=when, users=who)
        degraded += int(degraded_B.sum())
        if degraded and stop == len(cases):
            notes.append(f"{degraded:,} users got popular items: the model knows nothing of their history")
        return hits.items_BK if same else to_data[hits.items_BK]

    return answers, notes


def _user_rows(model: Recommender, data: Dataset, cases: Cases) -> npt.NDArray[np.int32]:
    """The users of the cases in the model's rows."""
    assert model.users is not None
    if model.users is data.users or model.users == data.users:
        return cases.users
    return model.users.rows(data.users.ids(cases.users))


def _count_seen(items_BK: npt.NDArray[np.int32], histories: Jagged) -> int:
    width = int(max(items_BK.max(initial=0), histories.values.max(initial=0))) + 2
    keys_BK = np.arange(len(items_BK))[:, None] * width + items_BK
    return int(np.isin(keys_BK[items_BK >= 0], histories.row_of() * width + histories.values).sum())
