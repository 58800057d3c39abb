"""The contract of an objective: how the vectors of T predictions are scored against their targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from leanrec.core.config import Config

__all__ = ["NoOptions", "Objective", "Predictions"]


class NoOptions(Config, frozen=True, kw_only=True):
    """An objective without settings of its own."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """The T predictions of a step.

    The leaf holds the table's rows that this step may touch: for a `full` objective the whole table in order, else the
    distinct rows of inputs, targets and negatives.
    """

    hidden_TD: Tensor
    leaf_UD: Tensor
    targets_T: Tensor
    """int64 places in the leaf."""
    negatives_n: Tensor
    """int64 places in the leaf, shared by all predictions; empty for a `full` objective."""
    log_expected_n: Tensor
    """float32: log of how often each negative's item is expected among the n drawn (log-Q, plus log n)."""
    weight_T: Tensor | None = None
    """float32 weight of each prediction, 1 on average; None weighs all the same."""


class Objective(ABC):
    """Mean loss over the predictions of a batch. Its settings are its `Options`."""

    Options: ClassVar[type[Config]] = NoOptions
    full: ClassVar[bool]
    cosine: ClassVar[bool] = False
    """Whether scores are cosines: item vectors are then kept at unit length, in training and in what is served."""

    @abstractmethod
    def __init__(self, config: Config, num_items: int, negatives: int) -> None:
        """For a catalogue of `num_items` and `negatives` drawn for every batch."""

    @abstractmethod
    def loss(self, p: Predictions) -> Tensor:
        """Scalar."""
