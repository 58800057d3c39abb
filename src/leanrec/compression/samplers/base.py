"""The contract of a sampler: what it draws follows from its seed and from what it was told, in whatever process.

So a search that was stopped goes the same way when what was measured is told to it again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import optuna

__all__ = ["FIRST_AT_RANDOM", "PlanSampler"]

FIRST_AT_RANDOM = 10


class PlanSampler(ABC):
    """One way to choose the next plan. cube: it moves through space, and sees plans as points of the unit cube.

    objectives: how many numbers it makes small at once: 1 is the cost with a penalty for what breaks the budget, 3 are
    cost, loss and bytes, with the budget as constraints.
    """

    cube: ClassVar[bool] = False
    objectives: ClassVar[int] = 1

    @abstractmethod
    def build(self, seed: int) -> optuna.samplers.BaseSampler:
        """The sampler that Optuna asks."""
