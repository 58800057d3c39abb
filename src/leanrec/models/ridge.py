"""Linear item-to-item weights: their closed form, the settings that are chosen for them, and the source they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.console import Progress, say
from leanrec.core.jagged import Jagged
from leanrec.data.dataset import Dataset
from leanrec.kernels.ridge import dual_diagonal, dual_rows, gram_rows, invert_positive
from leanrec.models.judges import HALF_LIVES, Judges
from leanrec.models.neighbourhood import Incidence, Neighbourhood, Part, largest, spread_items
from leanrec.runtime.sources.neighbours import NeighbourSource

__all__ = ["LinearSettings", "choose_linear", "closed_form", "linear_source"]

DEFAULTS_VERSION = 1
_RIDGES = (300.0, 100.0, 1000.0, 30.0, 3000.0, 10.0)
_OWN = (0.0, 0.03, 0.1, 0.3, 1.0)
_HEAD = 4096
"""Settings are tried on so many of the most frequent items, which takes seconds."""
_TRIED = 500
"""Weights of each that settings are judged by: more would cost long histories a minute."""
_ROWS = 128
"""Rows of weights that are whole in memory at a time, on each thread."""
_EXACT = 4096
"""Up to this side, inverses are computed in float64."""


@dataclass(frozen=True)
class LinearSettings:
    """What is None is to be chosen."""

    regularisation: float | None
    half_life: float | None
    own: float | None

    def plain(self) -> dict[str, float | None]:
        return {"regularisation": self.regularisation, "half_life": self.half_life, "own": self.own}

    @property
    def said(self) -> str:
        return (
            f"(defaults {DEFAULTS_VERSION}): regularisation={self.regularisation:g} half_life={self.half_life:g} "
            f"own={self.own:g}"
        )


def linear_source(name: str, weights: Neighbourhood, chosen: LinearSettings, window: int) -> NeighbourSource:
    """The weights, with each item that anybody had counting `own` for itself."""
    selves_N = weights.selves_N * np.float32(chosen.own or 0)
    return NeighbourSource(
        name, weights.lists, weights.similarities, selves_N, window=window, half_life=chosen.half_life or None
    )


def choose_linear(name: str, given: LinearSettings, data: Dataset, window: int, metric: str) -> LinearSettings:
    """The half-life, the regularisation and the weight of repeats that do best on the most frequent items alone."""
    chosen = replace(given, own=given.own if data.protocol.repeats or given.own is not None else 0.0)
    if None not in (chosen.regularisation, chosen.half_life, chosen.own):
        return chosen
    judges = Judges(data, metric)
    if not len(judges):
        return _first(chosen)
    head = _head(data.train().last(window), len(data.items))
    weights: dict[float, Neighbourhood] = {}

    def score(some: LinearSettings) -> float:
        some = _first(some)
        assert some.regularisation is not None
        if some.regularisation not in weights:
            weights[some.regularisation] = closed_form(head, some.regularisation, _TRIED)
        return judges.score(linear_source("tried", weights[some.regularisation], some, window))

    def best(key: str, values: Sequence[float]) -> None:
        nonlocal chosen
        if getattr(chosen, key) is None:
            found = max(values, key=lambda value: score(replace(chosen, **{key: value})))
            chosen = replace(chosen, **{key: found})

    best("half_life", HALF_LIVES if judges.ordered else HALF_LIVES[:1])
    best("own", _OWN)
    best("regularisation", _RIDGES)
    say(f"{name} {chosen.said}")
    return chosen


def _first(some: LinearSettings) -> LinearSettings:
    """What is tried first, where nothing is chosen yet."""
    firsts = {"regularisation": _RIDGES[0], "half_life": HALF_LIVES[0], "own": _OWN[0]}
    return LinearSettings(**{key: firsts[key] if value is None else value for key, value in some.plain().items()})


def _head(events: Jagged, num_items: int) -> Incidence:
    """Who had which of the most frequent items; others are nobody's."""
    counts_N = np.bincount(events.values, minlength=num_items)
    kept_N = np.zeros(num_items, np.bool_)
    kept_N[np.argsort(-counts_N, kind="stable")[:_HEAD]] = True
    return Incidence.of(events.where(kept_N[events.values]), num_items)


def closed_form(had: Incidence, regularisation: float, keep: int) -> Neighbourhood:
    """The `keep` largest weights of each item, by falling size: weights i -> j over what i says for j.

    Only items that anybody had take part. selves_N: 1 for them, else 0.
    """
    size = len(had.by_item)
    live_N = had.by_item.lengths > 0
    live_M = np.flatnonzero(live_N)
    place_N = np.cumsum(live_N) - 1
    by_user = Jagged(place_N[had.by_user.values].astype(np.int32), had.by_user.offsets)
    by_user = by_user.take(np.flatnonzero(by_user.lengths))
    alive = Incidence.of(by_user, len(live_M))
    rows = _dual(alive, regularisation) if len(by_user) < len(live_M) else _primal(alive, regularisation)

    def part(items: npt.NDArray[np.int64]) -> Part:
        weights_nM = rows(int(items[0]), int(items[-1]) + 1)
        places_nK, weights_nK = largest(weights_nM, keep)
        found_nK = weights_nK != 0
        return found_nK.sum(axis=1), live_M[places_nK[found_nK]].astype(np.int32), weights_nK[found_nK]

    counts_M, others_T, weights_T = spread_items("weights", np.arange(len(live_M)), part, most=_ROWS)
    counts_N = np.zeros(size, np.int64)
    counts_N[live_M] = counts_M
    return Neighbourhood(Jagged.from_lengths(others_T, counts_N), weights_T, live_N.astype(np.float32), keep)


Rows = Callable[[int, int], npt.NDArray[np.float32]]
"""(start, stop) to the rows of weights of these items."""


def _primal(had: Incidence, regularisation: float) -> Rows:
    inverse_MM = _regularised_inverse(had.by_user, had.by_item, regularisation)
    diagonal_M = np.diag(inverse_MM).copy()

    def rows(start: int, stop: int) -> npt.NDArray[np.float32]:
        return _weights(inverse_MM[start:stop] / -diagonal_M, start)

    return rows


def _dual(had: Incidence, regularisation: float) -> Rows:
    """P = (I - X' (XX' + r I)^-1 X) / r; of the division by r nothing is left in P[i, j] / P[j, j]."""
    kernel_UU = _regularised_inverse(had.by_item, had.by_user, regularisation)
    offsets, users = had.by_item.offsets, had.by_item.values
    within_M = np.empty(len(had.by_item))
    dual_diagonal(offsets, users, kernel_UU, within_M)

    def rows(start: int, stop: int) -> npt.NDArray[np.float32]:
        out_nM = np.empty((stop - start, len(within_M)))
        dual_rows(start, stop, offsets, users, kernel_UU, out_nM)
        return _weights(out_nM / (1 - within_M), start)

    return rows


def _weights(rows_nM: npt.NDArray[Any], start: int) -> npt.NDArray[np.float32]:
    """No item says anything for itself."""
    rows_nM[np.arange(len(rows_nM)), np.arange(start, start + len(rows_nM))] = 0
    return rows_nM.astype(np.float32)


def _regularised_inverse(by_row: Jagged, by_place: Jagged, regularisation: float) -> npt.NDArray[Any]:
    """(side, side) the inverse of the Gram matrix of places with `regularisation` on its diagonal."""
    side = len(by_place)
    gram = np.zeros((side, side), np.float64 if side <= _EXACT else np.float32)
    edges = np.linspace(0, side, min(side, 64) + 1).astype(int)

    def fill(start: int, stop: int) -> None:
        gram_rows(start, stop, by_row.offsets, by_row.values, by_place.offsets, by_place.values, gram)

    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        list(pool.map(fill, edges[:-1], edges[1:]))
    gram[np.diag_indices(side)] += regularisation
    with closing(Progress("inverse", side)) as progress:
        invert_positive(gram, progress.advance)
    return gram
