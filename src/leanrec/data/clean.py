"""What a row must be to be kept: ids, times and values of one batch, checked and repaired column by column."""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from leanrec.core.errors import InputError
from leanrec.data.report import Report

__all__ = ["MAX_ID_BYTES", "Positive", "clean_ids", "clean_times", "clean_values", "id_kind", "parse_positive"]

MAX_ID_BYTES = 4096
DAY = 86_400.0
_EXACT_FLOAT = 2.0**53

# Times from 1973 on are far apart in seconds, milliseconds, microseconds and nanoseconds: the size tells the unit.
_UNITS = (("milliseconds", 1e11, 1e3), ("microseconds", 1e14, 1e6), ("nanoseconds", 1e17, 1e9))

_OPERATORS: dict[str, Callable[[pl.Series, float], pl.Series]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Positive:
    """`column op number`: which events count as positive."""

    column: str
    op: str
    number: float
    text: str

    def keeps(self, values: pl.Series) -> pl.Series:
        """Boolean mask; a missing value is not positive."""
        return _OPERATORS[self.op](values, self.number).fill_null(False) & values.is_not_nan().fill_null(False)


def parse_positive(text: str) -> Positive:
    """`value>=4` and its like: a column, one of >= <= > < == !=, a number."""
    match = re.fullmatch(
        r"\s*(\w[\w .:-]*?)\s*(>=|<=|==|!=|>|<|=)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*", text
    )
    if match is None:
        raise InputError(f"positive={text!r} is not of the form 'column op number', such as 'value>=4'")
    column, op, number = match.groups()
    return Positive(column, "==" if op == "=" else op, float(number), text.strip())


def id_kind(dtype: pl.DataType, column: str, where: str) -> str:
    """'int', 'float' (whole numbers that came as floats) or 'text': how a column of ids is read."""
    if dtype.is_integer():
        return "int"
    if dtype.is_float() or isinstance(dtype, pl.Decimal):
        return "float"
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "text"
    if isinstance(dtype, pl.Null):
        raise InputError(f"{where}: the column {column!r} holds no id in any row")
    raise InputError(f"{where}: ids in the column {column!r} must be whole numbers or text, not {dtype}")


def clean_ids(ids: pl.Series, kind: str, column: str, where: str, first_row: int, report: Report) -> pl.Series:
    """Int64 or String ids, null where missing (null, NaN or empty text). Row numbers in errors count from 1."""
    if kind == "int":
        return _to_int64(ids, column, where, first_row)
    if kind == "float":
        floats = ids.cast(pl.Float64).fill_nan(None)
        bad = (floats != floats.floor()) | (floats.abs() > _EXACT_FLOAT)
        row = bad.fill_null(False).arg_max()
        if row is not None and bad[row]:
            raise InputError(
                f"{where}, row {first_row + row + 1}: the id {floats[row]!r} in the column {column!r} is no whole "
                f"number: convert the column to whole numbers or text"
            )
        report.count_repaired(
            f"{column} came as decimal numbers, read as whole numbers", len(floats) - floats.null_count()
        )
        return floats.cast(pl.Int64)
    texts = ids.cast(pl.String)
    sizes = texts.str.len_bytes()
    largest = sizes.max()
    if isinstance(largest, int) and largest > MAX_ID_BYTES:
        row = int(sizes.fill_null(0).arg_max() or 0)
        raise InputError(
            f"{where}, row {first_row + row + 1}: the id in the column {column!r} has {largest:,} bytes, "
            f"more than {MAX_ID_BYTES:,}: is it the right column?"
        )
    if sizes.min() == 0:
        texts = texts.set(sizes == 0, None)
    return texts


def _to_int64(ids: pl.Series, column: str, where: str, first_row: int) -> pl.Series:
    narrow = ids.cast(pl.Int64, strict=False)
    if narrow.null_count() != ids.null_count():
        row = int((narrow.is_null() & ids.is_not_null()).arg_max() or 0)
        raise InputError(f"{where}, row {first_row + row + 1}: the id {ids[row]} in {column!r} does not fit 64 bits")
    return narrow


def clean_times(times: pl.Series, column: str, where: str, report: Report) -> pl.Series:
    """Float64 Unix seconds, null where unreadable. Dates, text and finer units are repaired and counted."""
    dtype = times.dtype
    if isinstance(dtype, pl.Null):
        return times.cast(pl.Float64)
    if isinstance(dtype, pl.Date | pl.Datetime):
        report.count_repaired(f"{column} came as dates, read as UTC", len(times) - times.null_count())
        return times.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return _text_times(times.cast(pl.String), column, report)
    if not (dtype.is_numeric() or isinstance(dtype, pl.Decimal)):
        raise InputError(f"{where}: times in the column {column!r} must be numbers, dates or text, not {dtype}")
    return _scaled(times.cast(pl.Float64).fill_nan(None), column, report)


def _scaled(seconds: pl.Series, column: str, report: Report) -> pl.Series:
    largest = seconds.max()
    if not isinstance(largest, float) or largest < _UNITS[0][1]:
        return seconds
    frame = seconds.to_frame("t")
    upper = [*(unit[1] for unit in _UNITS[1:]), float("inf")]
    scaled = pl.col("t")
    for (name, low, factor), high in zip(_UNITS, upper, strict=True):
        inside = (pl.col("t") >= low) & (pl.col("t") < high)
        scaled = pl.when(inside).then(pl.col("t") / factor).otherwise(scaled)
        report.count_repaired(f"{column} came in {name}", int(frame.select(inside.sum()).item() or 0))
    return frame.select(scaled).to_series()


def _text_times(texts: pl.Series, column: str, report: Report) -> pl.Series:
    """Numbers written as text, else ISO 8601 dates and times; those without an offset are UTC."""
    stripped = texts.str.strip_chars()
    numbers = stripped.cast(pl.Float64, strict=False).fill_nan(None)
    report.count_repaired(f"{column} came as text, read as numbers", len(numbers) - numbers.null_count())
    seconds = _scaled(numbers, column, report)
    left = numbers.is_null() & stripped.is_not_null()
    if not left.any():
        return seconds
    iso = (
        stripped.to_frame("t")
        .select(
            pl.coalesce(
                pl.col("t").str.to_datetime("%+", time_zone="UTC", time_unit="us", strict=False),
                *(
                    pl.col("t").str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC")
                    for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
                ),
                pl.col("t").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            )
        )
        .to_series()
        .dt.epoch("us")
        .cast(pl.Float64)
        / 1e6
    )
    report.count_repaired(f"{column} came as text, read as ISO dates in UTC", int((left & iso.is_not_null()).sum()))
    return seconds.zip_with(~left, iso)


def clean_values(values: pl.Series, column: str, where: str, report: Report) -> pl.Series:
    """Float32 values, null where there are none; numbers written as text are read, other text counts as missing."""
    dtype = values.dtype
    if isinstance(dtype, pl.List | pl.Struct | pl.Array | pl.Object):
        raise InputError(f"{where}: values in the column {column!r} must be numbers, not {dtype}")
    numbers = values.cast(pl.Float64, strict=False).fill_nan(None)
    lost = numbers.null_count() - values.null_count() - (int(values.is_nan().sum()) if dtype.is_float() else 0)
    report.count_repaired(f"{column} is no number, taken as missing", lost)
    return numbers.cast(pl.Float32)


def latest_time() -> float:
    """Times after this (now and a day, for clocks that are ahead) are impossible."""
    return time.time() + DAY
