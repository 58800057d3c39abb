"""Rows as models take them: numbers, codes and lists by field. NumPy alone, for training and serving alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged

__all__ = ["LONGEST_HISTORY", "FeatureBatch", "Layout"]

LONGEST_HISTORY = 1 << 12
"""Events of a history that may count: what is made of them grows with it, and with nothing that lies on disk."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of a FeatureBatch, in its order: what a network needs to know to be built.

    numbers: names of `numbers_BF`. categories, sizes: names of `categories_BF` and how many codes each has, 0 included.
    lists, list_sizes: the same for `lists`. history: the category field whose codes the history is in (so that both
    share an embedding), or None.
    """

    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    lists: tuple[str, ...] = ()
    list_sizes: tuple[int, ...] = ()
    history: str | None = None

    def size_of(self, category: str) -> int:
        """How many codes a category field has, 0 included."""
        return self.sizes[self.categories.index(category)]

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Layout:
        """ValueError when the values are not those of a layout."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list | tuple) else v for name, v in values.items()}
        made = cls(**plain)
        if len(made.categories) != len(made.sizes) or len(made.lists) != len(made.list_sizes):
            raise ValueError("fields without a size")
        return made


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """B rows.

    numbers_BF: float32, always finite. categories_BF: int32, each field's own codes, 0 for unknown or missing.
    lists: for each list field (B) rows of int32 codes, never 0. history: (B) rows of codes of the field
    `layout.history`, oldest first (0 for items the training part did not show often enough), or None.
    """

    layout: Layout
    numbers_BF: npt.NDArray[np.float32]
    categories_BF: npt.NDArray[np.int32]
    lists: tuple[Jagged, ...] = ()
    history: Jagged | None = None

    def __len__(self) -> int:
        return len(self.categories_BF)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> FeatureBatch:
        """Some of the rows."""
        return FeatureBatch(
            self.layout,
            self.numbers_BF[rows],
            self.categories_BF[rows],
            tuple(one.take(rows) for one in self.lists),
            None if self.history is None else self.history.take(rows),
        )

    def slice(self, start: int, stop: int) -> FeatureBatch:
        """Rows start..stop as views."""
        return FeatureBatch(
            self.layout,
            self.numbers_BF[start:stop],
            self.categories_BF[start:stop],
            tuple(one.slice(start, stop) for one in self.lists),
            None if self.history is None else self.history.slice(start, stop),
        )
