"""A click log on disk into labelled rows on disk, in a stream: its memory does not grow with its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.console import Progress
from leanrec.core.errors import InputError
from leanrec.core.registry import nearest
from leanrec.data.examples.base import PARTS, TIME, Part
from leanrec.data.examples.formats import FORMATS, Format, Table
from leanrec.data.examples.stored import StoredExamples, write_examples
from leanrec.data.readers import Events, few_ahead, reading
from leanrec.data.report import Report
from leanrec.data.split import parse_split
from leanrec.kernels.hashing import hash_pairs

__all__ = ["prepare_examples"]

_BATCH = 1 << 17
_DAY = 86_400.0
_SPLIT = "time:0.8,0.1,0.1"


def prepare_examples(
    source: Any,
    out: str | Path,
    *,
    format: str,
    label: str | None = None,
    split: str | None = None,
    keep_negatives: float = 1.0,
    seed: int = 0,
    name: str | None = None,
) -> StoredExamples:
    """Turn a click log into labelled rows in `out`.

    format: `criteo`, `avazu`, or `table`: any file with the column `label` of 0 and 1. split: `time:0.8,0.1,0.1` by the
    order of the file (the default), `random:0.8,0.1,0.1` by seed and place in the file, or `days:1,1`: the last day
    tests and the one before validates, by the column `timestamp`. Rows without a label are dropped and counted.
    keep_negatives: share of the training rows with label 0 that is kept, drawn by seed and place in the file; models
    put their probabilities right by `Examples.rate` (He et al. 2014, section 6.3). Other parts keep all rows.
    """
    if not 0 < keep_negatives <= 1:
        raise InputError(f"keep_negatives={keep_negatives} must be above 0 and at most 1")
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"unknown format {format!r}{nearest(format, list(FORMATS))}; there are: {known}")
    if (label is not None) != (FORMATS[format] is Table):
        raise InputError("the format 'table', and no other, needs the name of its label column: --label COLUMN")
    layout = Table(label) if label is not None else FORMATS[format]()  # type: ignore[call-arg]
    events = layout.open(source)
    report = Report(source=events.where, columns={"label": layout.label})
    by = _rule(split or _SPLIT, events, layout, seed)
    return write_examples(
        out,
        _thinned(_parts(events, layout, by, report), layout.label, keep_negatives, seed, report),
        name=name or Path(str(source)).name.split(".", 1)[0].replace("*", "") or format,
        labels=(layout.label,),
        kinds=dict(layout.kinds),
        rate=keep_negatives,
        report=report,
    )


def _parts(events: Events, layout: Format, by: _Rule, report: Report) -> Iterator[tuple[Part, pl.DataFrame]]:
    with reading(events), few_ahead(), Progress("reading", by.total or None) as progress:
        for batch in events.frame.collect_batches(chunk_size=_BATCH, maintain_order=True):
            for frame in batch.iter_slices(_BATCH):
                clean = layout.clean(frame)
                labels = by.part_of(report.rows_read, clean)
                report.rows_read += len(clean)
                progress.advance(len(clean))
                known = clean[layout.label].is_not_null()
                if not known.all():
                    report.count_dropped(f"no {layout.label} of 0 or 1", int((~known).sum()))
                    clean, labels = clean.filter(known), labels[known.to_numpy()]
                report.events += len(clean)
                for place, part in enumerate(PARTS):
                    rows = np.flatnonzero(labels == place)
                    if len(rows):
                        yield part, clean if len(rows) == len(clean) else clean[rows]
    if not report.rows_read:
        raise InputError(f"{events.where} holds no rows")


def _thinned(
    parts: Iterator[tuple[Part, pl.DataFrame]], label: str, rate: float, seed: int, report: Report
) -> Iterator[tuple[Part, pl.DataFrame]]:
    """With only a share `rate` of the training rows of label 0."""
    seen = 0
    for part, frame in parts:
        if part != "train" or rate == 1.0:
            yield part, frame
            continue
        kept = (frame[label] == 1) | pl.Series(_uniform(seed + 1, seen, len(frame)) < rate)
        seen += len(frame)
        report.count_dropped(f"of label 0, not among the {100 * rate:g} % that train", int((~kept).sum()))
        report.events -= int((~kept).sum())
        if kept.any():
            yield part, frame.filter(kept)


def _uniform(seed: int, first: int, count: int) -> npt.NDArray[np.float64]:
    """(count,) numbers in [0, 1) that depend on the seed and the places from `first` on."""
    places = np.arange(first, first + count, dtype=np.uint64)
    hashes = hash_pairs(np.full(count, seed, np.uint64), places)
    return (hashes >> np.uint64(11)) / float(1 << 53)


@dataclass(frozen=True)
class _Rule:
    """Which part a row belongs to. cuts: places, numbers in [0, 1) or moments at which valid and test begin."""

    kind: str
    cuts: tuple[float, float]
    total: int
    seed: int = 0

    def part_of(self, first: int, rows: pl.DataFrame) -> npt.NDArray[np.int64]:
        """0 train, 1 valid, 2 test for each row; `first` is the place of the first in the file."""
        if self.kind == "days":
            keys = rows[TIME].fill_null(-np.inf).to_numpy()
        elif self.kind == "random":
            keys = _uniform(self.seed, first, len(rows))
        else:
            keys = np.arange(first, first + len(rows), dtype=np.float64)
        return np.searchsorted(np.array(self.cuts), keys, side="right")


def _rule(split: str, events: Events, layout: Format, seed: int) -> _Rule:
    days = re.fullmatch(r"days:(\d+),(\d+)", split.strip())
    if days is not None:
        return _by_days(int(days[1]), int(days[2]), events, layout)
    parsed = parse_split(split)
    if parsed.kind not in ("time", "random"):
        raise InputError(
            f"split {split!r} is not for labelled rows: choose time:0.8,0.1,0.1, random:0.8,0.1,0.1 or days:1,1"
        )
    first = parsed.shares[0], parsed.shares[0] + parsed.shares[1]
    if parsed.kind == "random":
        return _Rule("random", first, 0, seed)
    with reading(events):
        total = int(events.frame.select(pl.len()).collect(engine="streaming").item())
    return _Rule("time", (round(first[0] * total), round(first[1] * total)), total)


def _by_days(valid: int, test: int, events: Events, layout: Format) -> _Rule:
    """The last `test` days of the log test, `valid` days before them validate."""
    last = -np.inf
    with reading(events), few_ahead():
        for batch in events.frame.collect_batches(chunk_size=_BATCH, maintain_order=True):
            clean = layout.clean(batch)
            if TIME not in clean.columns:
                raise InputError(f"{events.where}: the split 'days' needs a column {TIME!r}; choose time:0.8,0.1,0.1")
            latest = clean[TIME].cast(pl.Float64).max()
            last = max(last, latest if isinstance(latest, float) else last)
    if not np.isfinite(last):
        raise InputError(f"{events.where}: no row says when it was; choose the split time:0.8,0.1,0.1")
    end = (last // _DAY + 1) * _DAY
    return _Rule("days", (end - (valid + test) * _DAY, end - test * _DAY), 0)
