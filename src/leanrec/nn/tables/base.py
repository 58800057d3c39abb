"""The contract of a table: N row vectors whose training cost is that of the rows a batch touches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from leanrec.core.config import Config

__all__ = ["Table", "TableOptions"]


class TableOptions(Config, frozen=True, kw_only=True):
    """What every table can be told."""

    optimiser: str = "lazy-adam"
    std: float | None = None
    """Standard deviation of fresh values; 1 / sqrt(D)."""
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-8


class Table(ABC):
    """N rows of D float32 values with their optimiser's state, apart from autograd.

    A training step asks for its distinct rows, gets a fresh leaf tensor that holds just them, runs forward and
    backward on it, and hands the gradient back. No other row is read or written.
    """

    Options: ClassVar[type[TableOptions]] = TableOptions
    num_rows: int
    dim: int

    @abstractmethod
    def __init__(self, num_rows: int, dim: int, config: TableOptions, *, seed: int) -> None:
        """Fresh rows that depend on the seed alone."""

    @abstractmethod
    def distinct(self, rows_S: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """(U,) distinct rows in order of first appearance and (S,) the place of each input among them."""

    @abstractmethod
    def gather(self, rows_U: npt.NDArray[np.int32] | None) -> Tensor:
        """(U, D) leaf with `requires_grad`, a copy of the rows; None means the whole table, in order."""

    @abstractmethod
    def apply(self, rows_U: npt.NDArray[np.int32] | None, grad_UD: Tensor, lr: float) -> None:
        """One optimiser step on those rows with the gradient of the leaf."""

    @abstractmethod
    def weight(self) -> npt.NDArray[np.float32]:
        """(N, D) the current values; a view where the table has one, for export and validation."""

    @abstractmethod
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Values and optimiser state, enough for an exact resume."""

    @abstractmethod
    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
