"""Stream rows into columns of numbers: each batch is cleaned, and only what is kept of it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import polars as pl

from leanrec.core.console import Progress
from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.data.clean import Positive, clean_ids, clean_times, clean_values, id_kind, latest_time
from leanrec.data.context import CONTEXT_ROLE, Moments
from leanrec.data.numbering import Encoders, Ids, Numbered
from leanrec.data.readers import Events, as_text, check_files, few_ahead, known_rows, reading
from leanrec.data.report import Report
from leanrec.data.scratch import Column, Scratch

__all__ = ["Rows", "ingest"]

_BATCH = 1 << 19
_ROW_BYTES = {"user": 12, "item": 12, "time": 16, "value": 8, "order": 16, "split": 2}
"""Room on the disk for one row: as it was read, and by user."""

_LABELS = {"train": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}


@dataclass(slots=True)
class Rows:
    """What is kept of each row, in the order of the file: ids; and by role, where there is such a column, time (Unix
    seconds), value (float32, NaN where missing), order (sort key), split (uint8 given labels), context:NAME (Moments).
    """

    users: Numbered
    items: Numbered
    columns: dict[str, list[npt.NDArray[Any]]]
    """Part by part, as the ids are."""
    texts: dict[str, Vocabulary] = field(default_factory=dict)
    """By role, what the codes of a context column stand for."""

    def __len__(self) -> int:
        return sum(map(len, self.users.parts))


def ingest(
    events: Events, columns: Mapping[str, str], positive: Positive | None, report: Report, scratch: Scratch
) -> Rows:
    """Read every row once. Rows are dropped for the first reason that applies, and counted in the report."""
    try:
        return _ingest(events, columns, positive, report, scratch)
    except InputError as error:
        # Ids that look like whole numbers in the first rows of a CSV may turn out to be text further down.
        if not (events.text and isinstance(error.__cause__, pl.exceptions.ComputeError)):
            raise
        ids = [columns["user"], columns["item"]]
        report.rows_read = 0
        report.dropped.clear()
        report.repaired.clear()
        rows = _ingest(as_text(events, ids), columns, positive, report, scratch)
        report.notes.append(f"{' and '.join(ids)} are not whole numbers throughout: read as text")
        return rows


def _ingest(
    events: Events, columns: Mapping[str, str], positive: Positive | None, report: Report, scratch: Scratch
) -> Rows:
    kept = 0
    picked = {role: pl.col(name) for role, name in columns.items()}
    if positive is not None:
        picked["positive"] = pl.col(positive.column)
    wanted = {*columns.values(), *([positive.column] if positive is not None else [])}
    check_files(events, wanted)
    with reading(events), few_ahead():
        # Names are changed batch by batch: over a projection that does it, Polars reads dozens of batches ahead.
        frame = events.frame.select([name for name in events.names if name in wanted])
        schema = frame.collect_schema()
        kinds = {role: id_kind(schema[columns[role]], columns[role], events.where) for role in ("user", "item")}
        total = known_rows(events)
        scratch.check((total or 0) * sum(_ROW_BYTES.get(role, 16) for role in columns))
        ids = {role: Ids(kind, scratch) for role, kind in kinds.items()}
        rest = {role: Column(scratch) for role in ("time", "value", "order", "split") if role in columns}
        moments = {
            role: Moments(name, schema[name], events.where, scratch)
            for role, name in columns.items()
            if role.startswith(CONTEXT_ROLE)
        }
        with Progress("reading", total) as progress, Encoders(ids) as encoders:
            for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=True):
                clean = _clean_batch(batch.select(**picked), kinds, columns, positive, events.where, report)
                report.rows_read += len(batch)
                progress.advance(len(batch))
                if len(clean):
                    encoders.append(clean)
                    for role, column in rest.items():
                        column.append(clean[role].to_numpy())
                    for role, moment in moments.items():
                        moment.append(clean[role])
                    kept += len(clean)
    if not report.rows_read:
        raise InputError(f"{events.where} holds no rows")
    if not kept:
        reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in report.dropped.items())
        raise InputError(f"{events.where}: no event is left of {report.rows_read:,} rows after cleaning ({reasons})")
    numbered = {role: column.finish() for role, column in ids.items()}
    columns_of = {role: column.finish() for role, column in rest.items()}
    texts = {}
    for role, moment in moments.items():
        columns_of[role], known = moment.finish()
        if known is not None:
            texts[role] = known
    return Rows(numbered["user"], numbered["item"], columns_of, texts)


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
    clean += [batch[role] for role in columns if role.startswith(CONTEXT_ROLE)]
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
