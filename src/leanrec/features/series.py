"""A raw column as features read it: numbers, moments, hashes of categories, lists; what cannot be read is missing.

The rules hold in training and serving alike: text that spells a number is that number; a whole number, the same as a
float and its decimal text are one category; NaN, infinity, null and what is of no fitting type are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.jagged import Jagged
from leanrec.kernels.hashing import hash_texts, hash_texts_reference

__all__ = ["Column"]

_COMPILED_FROM = 1 << 16
"""Texts from which loading (at first: compiling) the kernel is quicker than NumPy."""
_LARGEST = 1e30
_EXACT_FLOAT = 2.0**53
_INT64 = 2**63
# Times from 1973 on are far apart in seconds, milliseconds, microseconds and nanoseconds: the size tells the unit.
_UNITS = ((1e11, 1e3), (1e14, 1e6), (1e17, 1e9))


class Column:
    """A column of one frame. listed: the lists of a column that holds them in some rows only, null in the others."""

    def __init__(self, series: pl.Series, listed: pl.Series | None = None) -> None:
        self.series, self._listed = series, listed

    @classmethod
    def absent(cls, count: int) -> Self:
        """Missing in each of `count` rows."""
        return cls(pl.repeat(None, count, dtype=pl.Float64, eager=True))

    @classmethod
    def of_values(cls, values: Sequence[Any]) -> Self:
        """What requests say, of any types: each value means what it would alone, and in a column of its own type."""
        plain = [_plain(value) for value in values]
        if not any(isinstance(value, list) for value in plain):
            return cls(_series(plain))
        lists = [[_text(one) for one in value] if isinstance(value, list) else None for value in plain]
        scalars = _series([None if isinstance(value, list) else value for value in plain])
        return cls(scalars, pl.Series(lists, dtype=pl.List(pl.String)))

    def __len__(self) -> int:
        return len(self.series)

    def numbers(self) -> npt.NDArray[np.float64]:
        """(B,) finite numbers of at most 1e30, NaN where missing."""
        dtype = self.series.dtype
        series = self.series
        if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
            series = series.cast(pl.String).str.strip_chars().replace({"true": "1", "false": "0"})
        elif not (dtype.is_numeric() or isinstance(dtype, pl.Boolean)):
            return np.full(len(series), np.nan)
        found = series.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy().astype(np.float64)
        found[~np.isfinite(found)] = np.nan
        clipped: npt.NDArray[np.float64] = np.clip(found, -_LARGEST, _LARGEST)
        return clipped

    def moments(self) -> npt.NDArray[np.float64]:
        """(B,) Unix seconds from dates, times, ISO text, or numbers in seconds or finer units; NaN where missing."""
        dtype = self.series.dtype
        if isinstance(dtype, pl.Date | pl.Datetime):
            stamps = self.series.cast(pl.Datetime("us"), strict=False).dt.epoch("us").cast(pl.Float64) / 1e6
            return stamps.fill_null(np.nan).to_numpy().astype(np.float64)
        if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
            texts = self.series.cast(pl.String).str.strip_chars()
            seconds = _parsed(texts)
            plain = Column(texts).moments_of_numbers()
            return np.where(np.isnan(plain), seconds, plain)
        return self.moments_of_numbers()

    def moments_of_numbers(self) -> npt.NDArray[np.float64]:
        """`moments` of a column of numbers."""
        found = self.numbers()
        size = np.abs(found)
        scale = np.ones(len(found))
        for least, unit in _UNITS:
            scale[size >= least] = unit
        found = found / scale
        return np.where(np.abs(found) < _UNITS[0][0], found, np.nan)

    def hashes(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """(B,) a hash of each category, and (B,) where there is one."""
        return _hashed(_texts(self.series))

    def lists(self, separator: str) -> Jagged:
        """(B) rows of hashes of the categories in each list; text is split, anything else is a list of one."""
        series = self.series
        dtype = series.dtype
        if isinstance(dtype, pl.Array):
            series = series.arr.to_list()
        elif not isinstance(dtype, pl.List):
            series = _texts(series).str.split(separator)
        if self._listed is not None:
            series = pl.select(pl.coalesce(self._listed, series)).to_series()
        lengths = series.list.len().fill_null(0).to_numpy().astype(np.int64)
        flat = series.filter(pl.Series(lengths > 0)).explode()
        hashes, present = _hashed(_texts(flat))
        rows = Jagged.from_lengths(hashes, lengths)
        return rows.where(present)

    def rows(self) -> Jagged:
        """(B) lists of whole numbers, as item rows are; what is no such list is empty."""
        if not isinstance(self.series.dtype, pl.List):
            return Jagged.empty(len(self))
        lengths = self.series.list.len().fill_null(0).to_numpy().astype(np.int64)
        flat = self.series.filter(pl.Series(lengths > 0)).explode().cast(pl.Int32, strict=False).fill_null(-1)
        return Jagged.from_lengths(flat.to_numpy(), lengths)


def _series(plain: list[Any]) -> pl.Series:
    """A column of the type that all values have, else of text, in which each keeps its meaning."""
    kinds = {type(value) for value in plain if value is not None}
    if kinds == {bool}:
        return pl.Series(plain, dtype=pl.Boolean)
    if kinds == {int} and all(value is None or abs(value) < _INT64 for value in plain):
        return pl.Series(plain, dtype=pl.Int64)
    if kinds <= {int, float} and all(not isinstance(value, int) or abs(value) < _EXACT_FLOAT for value in plain):
        return pl.Series([None if value is None else float(value) for value in plain], dtype=pl.Float64)
    return pl.Series([None if value is None else _text(value) for value in plain], dtype=pl.String)


def _texts(series: pl.Series) -> pl.Series:
    """Categories as text, null where missing (empty text is)."""
    dtype = series.dtype
    if dtype.is_float():
        floats = series.cast(pl.Float64)
        floats = floats.set((floats.is_nan() | floats.is_infinite()).fill_null(False), None)
        whole = ((floats == floats.floor()) & (floats.abs() < _EXACT_FLOAT)).fill_null(False)
        if not whole.all():
            texts = floats.cast(pl.String)
            return texts.zip_with(~whole, floats.set(~whole, None).cast(pl.Int64).cast(pl.String))
        return floats.cast(pl.Int64).cast(pl.String)
    if dtype.is_nested() or isinstance(dtype, pl.Object | pl.Binary | pl.Null):
        return pl.repeat(None, len(series), dtype=pl.String, eager=True)
    if isinstance(dtype, pl.Duration | pl.Time):
        series = series.to_physical()
    texts = series.cast(pl.String, strict=False)
    return texts.set((texts.str.len_bytes() == 0).fill_null(False), None)


def _hashed(texts: pl.Series) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    present = texts.is_not_null().to_numpy()
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(texts.str.len_bytes().fill_null(0).to_numpy(), out=offsets[1:])
    joined = texts.str.join("").item() if offsets[-1] else ""
    raw = np.frombuffer(joined.encode(), np.uint8)
    return (hash_texts if len(texts) >= _COMPILED_FROM else hash_texts_reference)(raw, offsets), present


def _parsed(texts: pl.Series) -> npt.NDArray[np.float64]:
    try:
        times = texts.str.to_datetime(strict=False, time_unit="us")
    except pl.exceptions.ComputeError:  # no format fits any of them
        return np.full(len(texts), np.nan)
    return Column(times.dt.replace_time_zone(None) if times.dtype == pl.Datetime else times).moments()


def _plain(value: Any) -> Any:
    """A value of a request as bool, int, float, str or a list of them; None for what is none of these."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [plain for plain in map(_plain, value) if plain is not None and not isinstance(plain, list)]
    return None


def _text(value: bool | int | float | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value).lower()
    return _texts(pl.Series([value], dtype=pl.Float64))[0] or ""
