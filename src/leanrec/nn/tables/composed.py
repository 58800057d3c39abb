"""Tables whose rows are put together from the rows of smaller ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, final

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.nn.tables.base import MemoryTable, Rows, State, TableOptions
from leanrec.nn.tables.dense import DenseTable

__all__ = ["ComposedTable", "hashed_rows"]

_BLOCK = 1 << 14


class ComposedTable(MemoryTable):
    """N rows, each a function of a few rows of dense components, which have the optimiser and are shared by many rows.

    A way of composing says which component rows a row is made of and how, in torch: the gradient of the leaf is taken
    back through that to the components, where the shares of all rows add up.
    """

    def __init__(self, num_rows: int, dim: int, config: TableOptions, *, seed: int) -> None:
        super().__init__(num_rows, dim, config, seed=seed)
        self._components = {
            name: DenseTable(size, width, msgspec.structs.replace(config, std=std), seed=seed + at + 1)
            for at, (name, (size, width, std)) in enumerate(self._sizes().items())
        }

    @abstractmethod
    def _sizes(self) -> dict[str, tuple[int, int, float]]:
        """Component -> its rows, dimensions, and standard deviation of fresh values."""

    @abstractmethod
    def _parts(self, rows_U: Rows) -> dict[str, npt.NDArray[np.int32]]:
        """Component -> (U, C) which of its rows each row is made of."""

    @abstractmethod
    def _compose(self, parts: Mapping[str, Tensor]) -> Tensor:
        """(U, D) from component -> (U, C, width)."""

    @property
    @final
    def nbytes(self) -> int:
        return sum(component.nbytes for component in self._components.values()) + self._extra_bytes()

    @abstractmethod
    def _extra_bytes(self) -> int:
        """Bytes that a way keeps beside its components."""

    @final
    def weight(self) -> npt.NDArray[np.float32]:
        """(N, D) a copy: every row composed."""
        return self.gather(None).detach().numpy()

    @final
    def _read(self, rows_U: Rows | None) -> Tensor:
        rows_U = np.arange(self.num_rows, dtype=np.int32) if rows_U is None else rows_U
        values_UD = torch.empty(len(rows_U), self.dim)
        with torch.no_grad():
            for low in range(0, len(rows_U), _BLOCK):
                values_UD[low : low + _BLOCK] = self._build(rows_U[low : low + _BLOCK])[1]
        return values_UD

    @final
    def _build(self, rows_U: Rows) -> tuple[dict[str, tuple[Rows, Tensor]], Tensor]:
        """The touched component rows with their leaves, and the rows built from them."""
        leaves, parts = {}, {}
        for name, places_UC in self._parts(rows_U).items():
            touched, inverse = self._components[name].distinct(places_UC.ravel())
            leaf = self._components[name].gather(touched)
            leaves[name] = (touched, leaf)
            parts[name] = leaf.index_select(0, torch.from_numpy(inverse)).view(*places_UC.shape, -1)
        return leaves, self._compose(parts)

    @final
    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        rows_U = np.arange(self.num_rows, dtype=np.int32) if rows_U is None else rows_U
        if not len(rows_U):
            return
        with torch.enable_grad():
            leaves, values_UD = self._build(rows_U)
            values_UD.backward(grad_UD)  # type: ignore[no-untyped-call]
        for name, (touched, leaf) in leaves.items():
            assert leaf.grad is not None
            self._components[name].apply(touched, leaf.grad, lr)

    @final
    def _grow(self, num_rows: int) -> None:
        old, self.num_rows = self.num_rows, num_rows
        for name, (size, _, _) in self._sizes().items():
            self._components[name].grow(size)
        self.num_rows = old
        self._grow_layout(num_rows)

    @abstractmethod
    def _grow_layout(self, num_rows: int) -> None:
        """Extend what a way keeps beside its components."""

    @final
    def _forget(self, rows_E: Rows) -> None:
        # components belong to other rows as well; the tombstone alone hides the row
        del rows_E

    @final
    def _tensors(self) -> State:
        parts = {name: component.state() for name, component in self._components.items()}
        return {
            f"{name}.{key}": array for name, state in parts.items() for key, array in state.items()
        } | self._layout()

    @abstractmethod
    def _layout(self) -> State:
        """What a way keeps beside its components, to be saved."""

    @final
    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, component in self._components.items():
            prefix = f"{name}."
            component.load_state({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self._load_layout(state)

    @abstractmethod
    def _load_layout(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `_layout` gave."""


class LayoutFree(ComposedTable):
    """A composed table in which the number of a row says which component rows it is made of."""

    @final
    def _extra_bytes(self) -> int:
        return 0

    @final
    def _grow_layout(self, num_rows: int) -> None:
        del num_rows

    @final
    def _layout(self) -> State:
        return {}

    @final
    def _load_layout(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        del state


def hashed_rows(rows_U: Rows, functions: int, buckets: int, seed: int) -> Rows:
    """(U, functions) int32 buckets of each row by independent hashes (splitmix64 of row, function and seed)."""
    functions_C = np.arange(1, functions + 1, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    start = np.uint64((seed * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
    z = (rows_U.astype(np.uint64)[:, None] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + functions_C + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z % np.uint64(buckets)).astype(np.int32)
