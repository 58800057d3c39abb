"""Stream rows into narrow arrays: each batch is cleaned, its ids encoded, and only rows and numbers are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.data.clean import Positive, clean_ids, clean_times, clean_values, id_kind, latest_time
from leanrec.data.readers import Events, as_text, check_files, reading
from leanrec.data.report import Report

__all__ = ["Log", "ingest"]

_BATCH = 1 << 20
_INT32 = np.iinfo(np.int32)
_LABELS = {"train": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}


@dataclass(slots=True)
class Log:
    """Kept events in the order of the file. users, items: (T,) int32 rows. times: (T,) Unix seconds. values: (T,)
    float32, NaN where missing. order: (T,) sort key. split: (T,) uint8 given labels. None where there is no column.
    """

    user_ids: Vocabulary
    item_ids: Vocabulary
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    times: npt.NDArray[np.float64] | None = None
    values: npt.NDArray[np.float32] | None = None
    order: npt.NDArray[Any] | None = None
    split: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, at: npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]) -> None:
        """Keep the events at these positions, in this order (or under this mask); in place, one column at a time."""
        for column in ("users", "items", "times", "values", "order", "split"):
            array = getattr(self, column)
            if array is not None:
                setattr(self, column, array[at])

    def offsets(self) -> npt.NDArray[np.int64]:
        """(users + 1,) where each user's events start, once they are by user."""
        offsets = np.zeros(len(self.user_ids) + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.users, minlength=len(self.user_ids)), out=offsets[1:])
        return offsets


class _Ids:
    """A column of ids while it streams in: whole numbers as they are, text as codes of a growing pool."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pool = pl.Categories.random()
        # Polars forgets the texts of a pool when no series of it is left.
        self._alive = pl.Series([], dtype=pl.Categorical(self.pool))
        self.parts: list[npt.NDArray[Any]] = []

    def append(self, ids: pl.Series) -> None:
        if self.kind == "text":
            ids = ids.cast(pl.Categorical(self.pool)).to_physical()
        elif len(ids) and ids.is_between(_INT32.min, _INT32.max).all():
            ids = ids.cast(pl.Int32)
        self.parts.append(ids.to_numpy())

    def finish(self) -> tuple[Vocabulary, npt.NDArray[np.int32]]:
        """The vocabulary, ids rising, and the row of every event."""
        codes = _joined(self.parts)
        if self.kind != "text":
            return _encode_numbers(codes)
        texts = self.pool.to_series()
        order = texts.arg_sort().to_numpy()
        rows = np.empty(len(order), dtype=np.int32)
        rows[order] = np.arange(len(order), dtype=np.int32)
        return Vocabulary(texts.gather(order).to_list()), rows[codes]


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The parts end to end, each freed as soon as it is copied."""
    whole = np.empty(sum(map(len, parts)), dtype=np.result_type(*parts))
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def _encode_numbers(ids: npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> tuple[Vocabulary, npt.NDArray[np.int32]]:
    low, high = int(ids.min()), int(ids.max())
    if high - low < min(max(4 * len(ids), 1 << 16), _INT32.max):
        present = np.zeros(high - low + 1, dtype=np.bool_)
        places = ids if low == 0 else ids - low
        present[places] = True
        known = np.flatnonzero(present) + low
        rows = np.cumsum(present, dtype=np.int32) - np.int32(1)
        return Vocabulary(known), rows[places]
    column = pl.Series("id", ids)
    unique = column.unique().sort()
    rows_of = pl.DataFrame({"id": unique, "row": np.arange(len(unique), dtype=np.int32)})
    rows = column.to_frame().join(rows_of, on="id", how="left", maintain_order="left")["row"].to_numpy()
    return Vocabulary(unique.to_numpy()), rows


def ingest(events: Events, columns: Mapping[str, str], positive: Positive | None, report: Report) -> Log:
    """Read every row once. Rows are dropped for the first reason that applies, and counted in the report."""
    try:
        return _ingest(events, columns, positive, report)
    except InputError as error:
        # Ids that look like whole numbers in the first rows of a CSV may turn out to be text further down.
        if not (events.text and isinstance(error.__cause__, pl.exceptions.ComputeError)):
            raise
        ids = [columns["user"], columns["item"]]
        report.rows_read = 0
        report.dropped.clear()
        report.repaired.clear()
        log = _ingest(as_text(events, ids), columns, positive, report)
        report.notes.append(f"{' and '.join(ids)} are not whole numbers throughout: read as text")
        return log


def _ingest(events: Events, columns: Mapping[str, str], positive: Positive | None, report: Report) -> Log:
    picked = {role: pl.col(name).alias(role) for role, name in columns.items()}
    if positive is not None:
        picked["positive"] = pl.col(positive.column).alias("positive")
    check_files(events, {*columns.values(), *([positive.column] if positive is not None else [])})
    with reading(events):
        frame = events.frame.select(list(picked.values()))
        schema = frame.collect_schema()
        kinds = {role: id_kind(schema[role], columns[role], events.where) for role in ("user", "item")}
        ids = {role: _Ids(kind) for role, kind in kinds.items()}
        rest: dict[str, list[npt.NDArray[Any]]] = {r: [] for r in ("time", "value", "order", "split") if r in columns}
        for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=True):
            clean = _clean_batch(batch, kinds, columns, positive, events.where, report)
            report.rows_read += len(batch)
            for role in ("user", "item"):
                ids[role].append(clean[role])
            for role, parts in rest.items():
                parts.append(clean[role].to_numpy())
    if not report.rows_read:
        raise InputError(f"{events.where} holds no rows")
    if not any(len(part) for part in ids["user"].parts):
        reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in report.dropped.items())
        raise InputError(f"{events.where}: no event is left of {report.rows_read:,} rows after cleaning ({reasons})")
    user_ids, users = ids["user"].finish()
    item_ids, items = ids["item"].finish()
    arrays = {role: _joined(parts) for role, parts in rest.items()}
    return Log(
        user_ids,
        item_ids,
        users,
        items,
        arrays.get("time"),
        arrays.get("value"),
        arrays.get("order"),
        arrays.get("split"),
    )


def _clean_batch(
    batch: pl.DataFrame,
    kinds: Mapping[str, str],
    columns: Mapping[str, str],
    positive: Positive | None,
    where: str,
    report: Report,
) -> pl.DataFrame:
    """The rows of a batch that are kept, ids as Int64 or String, everything else as plain numbers."""
    first_row = report.rows_read
    clean = [
        clean_ids(batch[role], kinds[role], columns[role], where, first_row, report).alias(role)
        for role in ("user", "item")
    ]
    reasons = {f"no {columns[role]}": ids.is_null() for role, ids in zip(("user", "item"), clean, strict=True)}
    if "time" in columns:
        times = clean_times(batch["time"], columns["time"], where, report).alias("time")
        clean.append(times)
        reasons[f"no readable {columns['time']}"] = times.is_null()
        reasons[f"{columns['time']} before 1970"] = (times < 0).fill_null(False)
        reasons[f"{columns['time']} in the future"] = (times > latest_time()).fill_null(False)
    if "value" in columns:
        clean.append(
            clean_values(batch["value"], columns["value"], where, report).alias("value").fill_null(float("nan"))
        )
    if "order" in columns:
        clean.append(_order_keys(batch["order"], columns["order"], where, first_row).alias("order"))
    if "split" in columns:
        clean.append(_labels(batch["split"], columns["split"], where, first_row).alias("split"))
    if positive is not None:
        values = clean_values(batch["positive"], positive.column, where, Report())
        reasons[f"not {positive.text}"] = ~positive.keeps(values)
    return _kept(pl.DataFrame(clean), reasons, report)


def _kept(frame: pl.DataFrame, reasons: Mapping[str, pl.Series], report: Report) -> pl.DataFrame:
    kept: pl.Series | None = None
    for reason, mask in reasons.items():
        if not mask.any():
            continue
        fresh = mask if kept is None else mask & kept
        report.count_dropped(reason, int(fresh.sum()))
        kept = ~mask if kept is None else kept & ~mask
    return frame if kept is None else frame.filter(kept)


def _order_keys(keys: pl.Series, column: str, where: str, first_row: int) -> pl.Series:
    """Numbers that sort as the column does: Int64 where it is whole, else Float64."""
    if isinstance(keys.dtype, pl.String):
        numbers = keys.cast(pl.Float64, strict=False)
    elif keys.dtype.is_temporal():
        numbers = keys.to_physical()
    else:
        numbers = keys
    numbers = numbers.cast(pl.Int64 if numbers.dtype.is_integer() else pl.Float64, strict=False)
    missing = numbers.is_null() | (numbers.is_nan() if numbers.dtype.is_float() else False)
    if missing.any():
        row = int(missing.arg_max() or 0)
        raise InputError(
            f"{where}, row {first_row + row + 1}: {keys[row]!r} in the column {column!r} cannot order events: "
            f"it must be a number in every row"
        )
    return numbers


def _labels(labels: pl.Series, column: str, where: str, first_row: int) -> pl.Series:
    numbers = (
        labels.cast(pl.String, strict=False)
        .str.to_lowercase()
        .replace_strict(_LABELS, default=None, return_dtype=pl.UInt8)
    )
    if numbers.null_count():
        row = int(numbers.is_null().arg_max() or 0)
        raise InputError(
            f"{where}, row {first_row + row + 1}: {labels[row]!r} in the column {column!r} is none of train, valid, "
            f"test"
        )
    return numbers
