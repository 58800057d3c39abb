"""The contract of an objective: how the vectors of T predictions are scored against their targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

__all__ = ["Objective"]


class Objective(ABC):
    """Mean loss over the predictions of a batch.

    The leaf holds the table's rows that this step may touch: for a `full` objective the whole table in order, else the
    distinct rows of inputs, targets and negatives.
    """

    full: ClassVar[bool]

    @abstractmethod
    def __init__(self, num_items: int, negatives: int) -> None:
        """For a catalogue of `num_items` and `negatives` drawn for every batch."""

    @abstractmethod
    def loss(self, hidden_TD: Tensor, leaf_UD: Tensor, targets_T: Tensor, negatives_n: Tensor) -> Tensor:
        """Scalar. targets_T, negatives_n: int64 places in the leaf; negatives are shared by all predictions."""
