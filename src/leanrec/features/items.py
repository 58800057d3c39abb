"""What is known of each item beside its interactions: which items a filter allows, and what they are called.

Polars is imported only when a filter or a title is first asked for, so that a server that needs neither never loads it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from io import BytesIO
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, InputError
from leanrec.core.registry import nearest

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TITLE_COLUMNS", "ItemAttributes"]

TITLE_COLUMNS = ("title", "name", "item_title", "movie_title", "product_title")
"""What an item is called stands in the first of these that there is."""


class ItemAttributes:
    """Attributes of items by item row: a Polars frame, or an `items.parquet` that is read when first needed."""

    def __init__(self, source: pl.DataFrame | Path | mmap, num_items: int | None = None) -> None:
        self._source = source
        self._num_items = num_items
        self._frame: pl.DataFrame | None = None
        self._titles: pl.Series | None = None
        self._masks: dict[tuple[str, str], npt.NDArray[np.bool_]] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> ItemAttributes:
        """Rows aligned to item rows."""
        return cls(frame, len(frame))

    @classmethod
    def from_parquet(cls, source: str | Path | mmap, num_items: int | None = None) -> ItemAttributes:
        """Rows aligned to item rows; nothing is read yet. num_items: how many rows there must be.

        source: a path, or a mapped file, which stays what it was when a newer one takes the path.
        """
        return cls(source if isinstance(source, mmap) else Path(source), num_items)

    @property
    def frame(self) -> pl.DataFrame:
        """The whole table."""
        with self._lock:
            if self._frame is None:
                self._frame = self._read()
            return self._frame

    @property
    def columns(self) -> list[str]:
        return self.frame.columns

    def __len__(self) -> int:
        return len(self.frame)

    def allowed(self, filter: Mapping[str, Sequence[str]]) -> npt.NDArray[np.bool_]:
        """(N,) whether each item has, in every named column, one of the values listed for it.

        Values are compared as text; a column of lists matches when any of its entries does; an item without a value
        matches nothing. An unknown column is an InputError that names the columns there are.
        """
        allowed = np.ones(len(self), dtype=np.bool_)
        for column, values in filter.items():
            if column not in self.columns:
                known = ", ".join(self.columns)
                raise InputError(
                    f"items cannot be filtered by {column!r}{nearest(column, self.columns)}; columns: {known}"
                )
            any_of = np.zeros(len(self), dtype=np.bool_)
            for value in [values] if isinstance(values, str) else values:
                any_of |= self._mask(column, str(value))
            allowed &= any_of
        return allowed

    def title(self, row: int) -> str | None:
        """What the item is called, None where that is not known."""
        if self._titles is None:
            self._titles = self._title_column()
        title = self._titles[row] if 0 <= row < len(self._titles) else None
        return None if title is None else str(title)

    def parquet(self) -> bytes:
        """The content of `items.parquet`."""
        if isinstance(self._source, Path):
            return self._source.read_bytes()
        if isinstance(self._source, mmap):
            return self._source[:]
        buffer = BytesIO()
        self.frame.write_parquet(buffer)
        return buffer.getvalue()

    def _mask(self, column: str, value: str) -> npt.NDArray[np.bool_]:
        """(N,) the items with this value; the few that are asked for again and again are kept."""
        mask = self._masks.get((column, value))
        if mask is None:
            mask = self._compare(column, value)
            if len(self._masks) >= _KEPT_MASKS:
                self._masks.clear()
            self._masks[column, value] = mask
        return mask

    def _compare(self, column: str, value: str) -> npt.NDArray[np.bool_]:
        import polars as pl

        series = self.frame[column]
        if isinstance(series.dtype, pl.List | pl.Array):
            texts = series.cast(pl.List(pl.String), strict=False)
            found = texts.list.contains(value)
        else:
            found = _as_text(series) == value
        return found.fill_null(False).to_numpy().astype(np.bool_)

    def _title_column(self) -> pl.Series:
        import polars as pl

        name = next((name for name in TITLE_COLUMNS if name in self.columns), None)
        return pl.Series("title", [], dtype=pl.String) if name is None else self.frame[name]

    def _read(self) -> pl.DataFrame:
        import polars as pl

        if isinstance(self._source, pl.DataFrame):
            return self._source
        name = self._source.name if isinstance(self._source, Path) else "items.parquet"
        try:
            source = BytesIO(self._source) if isinstance(self._source, mmap) else self._source
            frame = pl.read_parquet(source, memory_map=False)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise BundleError(f"{name} cannot be read: the bundle is incomplete or edited") from error
        if self._num_items is not None and len(frame) != self._num_items:
            raise BundleError(f"{name} has {len(frame)} rows for {self._num_items} items: it was edited")
        return frame


_KEPT_MASKS = 64


def _as_text(series: pl.Series) -> pl.Series:
    """Whole floats as whole numbers, so that 1999.0 is asked for as '1999'; everything else as Polars writes it."""
    import polars as pl

    if series.dtype.is_float():
        whole = series.cast(pl.Int64, strict=False)
        if bool(((whole.cast(series.dtype) == series) | series.is_null() | series.is_nan()).all()):
            return whole.cast(pl.String)
    return series.cast(pl.String, strict=False)
