"""EASE: every item predicted from all others by ridge regression, in closed form (Steck 2019, arXiv:1905.03375).

Weights are -P[i, j] / P[j, j] of P = (X'X + regularisation I)^-1, X who had what. With fewer users than items, P comes
from the inverse of a users x users matrix (Woodbury): the same weights for less. A score is the sum of the weights of
the events of the history, where older events may count less.
"""

from __future__ import annotations

from typing import ClassVar

from leanrec.core.errors import MachineError
from leanrec.core.machine import free_memory, human
from leanrec.data.dataset import Dataset
from leanrec.models.linear_weights import LinearConfig, LinearModel
from leanrec.models.neighbourhood import Incidence, Neighbourhood
from leanrec.models.ridge import closed_form
from leanrec.training.memory import Line, MemoryNeed

__all__ = ["EASE", "EASEConfig"]


class EASEConfig(LinearConfig, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (models/ridge.py), and printed."""

    neighbours: int = 1000
    """Weights kept for each item, the largest by size; those of up to so many items are kept whole."""


class EASE(LinearModel[EASEConfig]):
    """Every item predicted from all others by ridge regression, in closed form."""

    name: ClassVar[str] = "ease"
    Config = EASEConfig

    def weights(self, had: Incidence, regularisation: float) -> Neighbourhood:
        return closed_form(had, regularisation, self.config.neighbours)

    def memory(self, data: Dataset) -> MemoryNeed:
        """An inverse as wide as the fewer of users and items, and the weights that are kept."""
        size, users = len(data.items), len(data.users)
        side = min(size, users)
        return MemoryNeed(
            stays=[
                Line(f"an inverse of {side:,} x {side:,}", int(side * side * 4 * 1.1)),
                Line("weights", size * min(self.config.neighbours, size) * 16),
            ],
            passing=[Line("rows of weights as they are made", 4 * 1024 * 4 * max(side, size))],
            disk=[Line("bundle", size * min(self.config.neighbours, size) * 8)],
            remedies=["neighbours=..."],
        )

    def check(self, data: Dataset) -> None:
        need, free = self.memory(data), free_memory()
        if need.memory_bytes > free:
            inverse, kept = need.stays
            raise MachineError(
                f"ease needs {human(need.memory_bytes)} of memory for {inverse.what} and {human(kept.bytes)} of "
                f"weights, and {human(free)} are free: use the sparse model slim instead"
            )
