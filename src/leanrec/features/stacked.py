"""All values of all fields as rows of one table: a block of rows for each field, in the order of the layout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.features.batch import FeatureBatch, Layout
from leanrec.kernels.fields import place_fields

__all__ = ["Stacked", "blank", "padded"]

Rows = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Stacked:
    """Where each field's rows begin: categories (C,), lists (one each), then a row for every number; total: R."""

    categories_C: Rows
    lists: Rows
    numbers_M: Rows
    total: int
    history: int
    """Where the field that the history's codes belong to begins; -1 without one."""
    target: int
    """Place of that field among the categories; -1 without one."""

    @classmethod
    def of(cls, layout: Layout) -> Stacked:
        sizes = [*layout.sizes, *layout.list_sizes, *([1] * len(layout.numbers))]
        if sum(sizes) >= 1 << 31:
            raise ValueError(f"{sum(sizes):,} values of all fields are more than row numbers can count")
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        lists, numbers = len(layout.sizes), len(layout.sizes) + len(layout.list_sizes)
        target = -1 if layout.history is None else layout.categories.index(layout.history)
        return cls(
            starts[:lists], starts[lists:numbers], starts[numbers:-1], int(starts[-1]),
            -1 if target < 0 else int(starts[target]), target,
        )  # fmt: skip

    @property
    def fields(self) -> int:
        """F: categories, lists and numbers."""
        return len(self.categories_C) + len(self.lists) + len(self.numbers_M)

    def sparse(self, batch: FeatureBatch) -> tuple[Jagged, npt.NDArray[np.float32]]:
        """(B) rows of table rows, and how much each counts: 1 for a category, 1 / length in a list, a number itself."""
        count, width = batch.categories_BF.shape
        numbers = batch.numbers_BF.shape[1]
        lengths = np.full(count, width + numbers, np.int64)
        for one in batch.lists:
            lengths += one.lengths
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows_T, values_T = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
        place_fields(
            batch.categories_BF, self.categories_C, batch.numbers_BF, self.numbers_M, offsets, rows_T, values_T
        )
        at_B = offsets[:-1] + width
        for start, one in zip(self.lists, batch.lists, strict=True):
            places, owner = np.arange(len(one.values)) - np.repeat(one.offsets[:-1], one.lengths), one.row_of()
            rows_T[at_B[owner] + places] = one.values + start
            values_T[at_B[owner] + places] = (1 / np.maximum(one.lengths, 1))[owner]
            at_B += one.lengths
        return Jagged(rows_T, offsets), values_T


def blank(layout: Layout, count: int) -> FeatureBatch:
    """`count` rows of which nothing is known."""
    nothing = Jagged(np.empty(0, np.int32), np.zeros(count + 1, np.int64))
    return FeatureBatch(
        layout,
        np.zeros((count, len(layout.numbers)), np.float32),
        np.zeros((count, len(layout.categories)), np.int32),
        tuple(nothing for _ in layout.lists),
        None if layout.history is None else nothing,
    )


def padded(rows: Jagged, length: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """(B, length) the last values of each row, 0 after the end, and the mask of what is there."""
    last = rows.last(length)
    mask_BL = np.arange(length) < last.lengths[:, None]
    out_BL = np.zeros((len(rows), length), np.int32)
    out_BL[mask_BL] = last.values
    return out_BL, mask_BL
