"""SLIM on neighbourhoods: every item predicted by ridge regression from the items most like it alone.

The sparse model for catalogues whose inverse does not fit. Each item takes part with its nearest items by cosine, as in
fsSLIM (Ning & Karypis 2011); the weights are the exact solution on that neighbourhood, the sparse approximation of EASE
of Steck 2019 (Markov Random Fields for Collaborative Filtering) with a neighbourhood of its own for every item. Memory:
who had what, and `neighbours` weights an item.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.core.space import Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.kernels.blas import blas_threads
from leanrec.kernels.neighbours import nearest_items
from leanrec.kernels.ridge import local_grams
from leanrec.models.forecasts import neighbour_memory
from leanrec.models.linear_weights import LinearConfig, LinearModel
from leanrec.models.neighbourhood import Incidence, Neighbourhood, Part, spread_items
from leanrec.training.memory import Line, MemoryNeed

__all__ = ["SLIM", "SLIMConfig"]

_SHRINKAGE = 10.0
"""Of the cosine by which neighbours are taken: one shared user makes no neighbour of two frequent items."""
_SYSTEMS = 32
"""Items whose equations are in memory at a time, on each thread."""


class SLIMConfig(LinearConfig, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (models/ridge.py), and printed."""

    neighbours: int = 200
    """Items that each item is predicted from."""

    space: ClassVar[Mapping[str, Dimension]] = {"neighbours": Range(20, 400, log=True), **LinearConfig.space}


class SLIM(LinearModel[SLIMConfig]):
    """Every item predicted by ridge regression from the items most like it alone."""

    name: ClassVar[str] = "slim"
    Config = SLIMConfig

    def weights(self, had: Incidence, regularisation: float) -> Neighbourhood:
        return neighbourhood_weights(had, self.config.neighbours, regularisation)

    def memory(self, data: Dataset) -> MemoryNeed:
        need, width = neighbour_memory(data, self.config.neighbours), min(self.config.neighbours, len(data.items))
        systems = Line("equations being solved", 2 * 2 * 8 * _SYSTEMS * width * width)
        return msgspec.structs.replace(need, passing=[*need.passing, systems])


def neighbourhood_weights(had: Incidence, neighbours: int, regularisation: float) -> Neighbourhood:
    """The weights i -> j over what i says for j, by falling size; j is predicted from its nearest items alone."""
    near = _nearest(had, neighbours)
    size, users = len(had.by_item), len(had.by_user)

    def part(items: npt.NDArray[np.int64]) -> Part:
        width = max(int(near.lengths[items].max(initial=0)), 1)
        gram_nMM, target_nM = np.zeros((len(items), width, width)), np.zeros((len(items), width))
        local_grams(
            items, near.offsets, near.values, had.by_item.offsets, had.by_item.values, users, regularisation, gram_nMM,
            target_nM,
        )  # fmt: skip
        weights_nM = np.linalg.solve(gram_nMM, target_nM[:, :, None])[:, :, 0].astype(np.float32)
        lengths_n = near.lengths[items]
        kept_nM = np.arange(width) < lengths_n[:, None]
        return lengths_n, near.take(items).values, weights_nM[kept_nM]

    with blas_threads(1):  # the threads are ours: each solves systems of its own
        counts_N, sources_T, weights_T = spread_items("weights", np.arange(size), part, most=_SYSTEMS)
    targets_T = np.repeat(np.arange(size, dtype=np.int32), counts_N)
    order_T = np.lexsort((targets_T, -np.abs(weights_T), sources_T))
    order_T = order_T[weights_T[order_T] != 0]
    lists = Jagged.from_lengths(targets_T[order_T], np.bincount(sources_T[order_T], minlength=size))
    selves_N = (had.by_item.lengths > 0).astype(np.float32)
    return Neighbourhood(lists, weights_T[order_T], selves_N, size)


def _nearest(had: Incidence, neighbours: int) -> Jagged:
    """Each item's nearest others by shrunk cosine."""
    ones_T = np.ones(len(had.by_user.values), np.float32)
    norms_N = had.by_item.lengths.astype(np.float64)

    def part(items: npt.NDArray[np.int64]) -> Part:
        counts_n, rows_nK, similarities_nK = nearest_items(
            items, had.by_user.offsets, had.by_user.values, ones_T, had.by_item.offsets, had.by_item.values, ones_T,
            norms_N, norms_N, neighbours, _SHRINKAGE, False,
        )  # fmt: skip
        kept_nK = np.arange(neighbours) < counts_n[:, None]
        return counts_n, rows_nK[kept_nK], similarities_nK[kept_nK]

    counts_N, rows_T, _ = spread_items("item neighbours", np.arange(len(norms_N)), part)
    return Jagged.from_lengths(rows_T, counts_N)
