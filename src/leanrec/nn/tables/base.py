"""The contract of a table: N row vectors whose training cost is that of the rows a batch touches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.core.config import Config
from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.kernels.rows import distinct_rows

__all__ = ["ArrangedTable", "MemoryTable", "State", "Table", "TableOptions"]

Rows = npt.NDArray[np.int32]
State = dict[str, npt.NDArray[Any]]


class TableOptions(Config, frozen=True, kw_only=True):
    """What every table can be told."""

    optimiser: str = "lazy-adam"
    """Of the rows: `lazy-adam`, `rowwise-adagrad` or `sgd`, see nn.tables.optimisers."""
    std: float | None = None
    """Standard deviation of fresh values; 1 / sqrt(D)."""
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-8


class Table(ABC):
    """N rows of D float32 values with their optimiser's state, apart from autograd.

    A training step asks for its distinct rows, gets a fresh leaf tensor that holds just them, runs forward and
    backward on it, and hands the gradient back. No other row is read or written. A way of being a table implements the
    hooks with an underscore; what callers use is the same for all.
    """

    Options: ClassVar[type[TableOptions]] = TableOptions

    def __init__(self, num_rows: int, dim: int, config: TableOptions, *, seed: int) -> None:
        """Fresh rows: what a row starts as depends on the seed and its number alone, not on how many there are."""
        self.num_rows, self.dim, self.config, self.seed = num_rows, dim, config, seed
        self._places = np.empty(0, np.int32)
        self._erased: npt.NDArray[np.bool_] | None = None

    @property
    def std(self) -> float:
        """Standard deviation of fresh values."""
        return self.dim**-0.5 if self.config.std is None else self.config.std

    @final
    def distinct(self, rows_S: Rows) -> tuple[Rows, npt.NDArray[np.int64]]:
        """(U,) distinct rows in order of first appearance and (S,) the place of each input among them."""
        if len(self._places) != self.num_rows:
            self._places = np.full(self.num_rows, -1, np.int32)
        return distinct_rows(rows_S, self._places)

    @final
    def gather(self, rows_U: Rows | None) -> Tensor:
        """(U, D) leaf with `requires_grad`, a copy of the distinct rows; None means the whole table, in order.

        The whole table may be a view of the values: read it before `apply`, not after.
        """
        values_UD = self._read(rows_U)
        if self._erased is not None:
            gone_U = self._erased if rows_U is None else self._erased[rows_U]
            values_UD[torch.from_numpy(gone_U)] = 0.0
        return values_UD.requires_grad_()

    @final
    def apply(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        """One optimiser step on those rows with the gradient of the leaf. Erased rows stay as they are."""
        grad_UD = grad_UD.detach()
        if self._erased is not None:
            kept_U = np.flatnonzero(~(self._erased if rows_U is None else self._erased[rows_U]))
            rows_U = kept_U.astype(np.int32) if rows_U is None else rows_U[kept_U]
            grad_UD = grad_UD[torch.from_numpy(kept_U)]
        self._update(rows_U, grad_UD, lr)

    @final
    def grow(self, num_rows: int) -> None:
        """More rows at the end, as fresh as if the table had been made with them; the others keep all they have."""
        if num_rows < self.num_rows:
            raise InputError(f"a table of {self.num_rows} rows cannot grow to {num_rows}: give at least as many")
        self._grow(num_rows)
        if self._erased is not None:
            self._erased = np.concatenate([self._erased, np.zeros(num_rows - self.num_rows, np.bool_)])
        self.num_rows = num_rows

    @final
    def erase(self, rows: Rows) -> None:
        """Leave tombstones: the rows read as zeros and no step changes them again.

        Values and optimiser state that belong to such a row alone are overwritten in memory; states saved before, and
        components shared with other rows, still hold traces of it.
        """
        if self._erased is None:
            self._erased = np.zeros(self.num_rows, np.bool_)
        self._erased[rows] = True
        self._forget(np.asarray(rows, np.int32))

    @property
    @final
    def erased(self) -> Rows:
        """The rows with tombstones, in order."""
        return np.flatnonzero(self._erased).astype(np.int32) if self._erased is not None else np.empty(0, np.int32)

    @final
    def state(self) -> State:
        """Values and optimiser state, enough for an exact resume.

        Arrays may be views that move with training: copy or write them before the next step. A table on disk gives a
        mark into its own file instead of the values; see `keep`.
        """
        return {"rows": np.asarray([self.num_rows, self.dim], np.int64), "erased": self.erased, **self._tensors()}

    @final
    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        rows, dim = (int(n) for n in state["rows"])
        if (rows, dim) != (self.num_rows, self.dim):
            raise InputError(
                f"the state is of a table of {rows} rows and {dim} dimensions, this one has {self.num_rows} and "
                f"{self.dim}: make one of that size, load, then grow"
            )
        self._load_tensors(state)
        self._erased = None
        if len(state["erased"]):
            self._erased = np.zeros(self.num_rows, np.bool_)
            self._erased[state["erased"]] = True

    @abstractmethod
    def prefetch(self, rows_S: Rows) -> None:
        """A hint that a coming step will gather these rows (repeats allowed): a table on disk reads them meanwhile.

        May be called from another thread than the steps'.
        """

    @abstractmethod
    def keep(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """Of all states given so far only these may be loaded again: a table on disk frees what only others need.

        Called after those states are durable. Never called, every state stays loadable and the file grows.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and threads; the table is not used afterwards. Saved states stay."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of values and optimiser state that this table holds in memory."""

    @abstractmethod
    def weight(self) -> npt.NDArray[np.float32]:
        """(N, D) the current values; a view where the table has one, for export and validation."""

    @abstractmethod
    def _read(self, rows_U: Rows | None) -> Tensor:
        """(U, D) a fresh float32 tensor with the values of the rows; None means all, as a view where that can be."""

    @abstractmethod
    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        """One optimiser step on distinct rows."""

    @abstractmethod
    def _grow(self, num_rows: int) -> None:
        """Make room; `self.num_rows` is still the old number."""

    @abstractmethod
    def _forget(self, rows_E: Rows) -> None:
        """Overwrite with zeros what belongs to these rows alone."""

    @abstractmethod
    def _tensors(self) -> State:
        """What `state` saves beside sizes and tombstones."""

    @abstractmethod
    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `_tensors` gave."""


class MemoryTable(Table):
    """A table that stands in memory as a whole: nothing to fetch, nothing to let go of."""

    @final
    def prefetch(self, rows_S: Rows) -> None:
        del rows_S

    @final
    def keep(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        del states

    @final
    def close(self) -> None:
        pass


class ArrangedTable(ABC):
    """A table whose layout is taken from the data: `arrange` is called once, before the first step."""

    @abstractmethod
    def arrange(self, sequences: Jagged) -> None:
        """Lay out the rows by the users' item sequences."""
