"""Labelled rows of new events in the numbering of users and items that a model already has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.data.examples.base import HISTORY, ITEM, USER, Examples, Part, Side

__all__ = ["Renumbered"]


class Renumbered(Examples):
    """`inner` with other row numbers. users, items: (rows of inner,) int32 the number that each has instead."""

    def __init__(self, inner: Examples, users: npt.NDArray[np.int32], items: npt.NDArray[np.int32]) -> None:
        self._inner, self._maps = inner, {USER: users, ITEM: items}
        self.name, self.fingerprint, self.labels, self.rate = inner.name, inner.fingerprint, inner.labels, inner.rate
        self.columns, self.sides, self.kinds = inner.columns, inner.sides, inner.kinds

    def rows(self, part: Part) -> int:
        return self._inner.rows(part)

    def sample(self, part: Part, rows: int) -> pl.DataFrame:
        return self._mapped(self._inner.sample(part, rows))

    def entities(self, side: Side) -> pl.DataFrame | None:
        frame = self._inner.entities(side)
        return None if frame is None else self._mapped(frame)

    def _read(self, part: Part, size: int, columns: list[str], seed: int | None) -> Iterator[pl.DataFrame]:
        for frame in self._inner.batches(part, size, columns, seed=seed):
            yield self._mapped(frame)

    def _mapped(self, frame: pl.DataFrame) -> pl.DataFrame:
        for column, numbers in self._maps.items():
            if column in frame.columns:
                frame = frame.with_columns(pl.Series(column, numbers[frame[column].to_numpy()]))
        if HISTORY in frame.columns:
            items = pl.Series(self._maps[ITEM])
            frame = frame.with_columns(pl.col(HISTORY).list.eval(_number(items)))
        return frame


def _number(items: pl.Series) -> pl.Expr:
    return pl.element().replace_strict(pl.Series(np.arange(len(items), dtype=np.int32)), items, return_dtype=pl.Int32)
