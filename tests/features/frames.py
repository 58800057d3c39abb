"""Labelled rows in memory, and columns of any content."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import numpy as np
import polars as pl
from hypothesis import strategies as st

from leanrec.data.examples.base import Examples, Part, Side, evenly


class FrameExamples(Examples):
    """A frame for each part; what a test says of sides and kinds."""

    def __init__(self, train: pl.DataFrame, other: pl.DataFrame | None = None, *, sides=None, kinds=None) -> None:
        self.frames = {"train": train, "valid": train.clear(), "test": train.clear() if other is None else other}
        self.name, self.fingerprint, self.labels = "frames", "0", ("label",)
        self.columns = {name: dtype for name, dtype in train.schema.items() if name != "label"}
        self.sides: dict[str, Side] = dict.fromkeys(self.columns, "context") | (sides or {})
        self.kinds = kinds or {}

    def rows(self, part: Part) -> int:
        return len(self.frames[part])

    def sample(self, part: Part, rows: int) -> pl.DataFrame:
        return self.frames[part][evenly(len(self.frames[part]), rows)]

    def entities(self, side: Side) -> pl.DataFrame | None:
        return None

    def _read(self, part: Part, size: int, columns: list[str], seed: int | None) -> Iterator[pl.DataFrame]:
        for start in range(0, self.rows(part), size):
            yield self.frames[part][start : start + size].select("label", *columns)


def examples(**columns) -> FrameExamples:
    """Training rows of the given columns, labels 0 and 1 in turn."""
    frame = pl.DataFrame(columns)
    return FrameExamples(frame.insert_column(0, pl.Series("label", np.arange(len(frame)) % 2, dtype=pl.UInt8)))


NUMBERS = st.one_of(st.none(), st.floats(), st.integers(-(2**62), 2**62).map(float))
COLUMNS = st.integers(0, 8).flatmap(
    lambda size: st.one_of(
        st.lists(NUMBERS, min_size=size, max_size=size).map(lambda v: pl.Series(v, dtype=pl.Float64)),
        st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=size, max_size=size).map(
            lambda v: pl.Series(v, dtype=pl.Int64)
        ),
        st.lists(st.none() | st.text(max_size=5), min_size=size, max_size=size).map(
            lambda v: pl.Series(v, dtype=pl.String)
        ),
        st.lists(st.none() | st.booleans(), min_size=size, max_size=size).map(lambda v: pl.Series(v, dtype=pl.Boolean)),
        st.lists(st.none() | st.lists(st.none() | st.text(max_size=2), max_size=3), min_size=size, max_size=size).map(
            lambda v: pl.Series(v, dtype=pl.List(pl.String))
        ),
        st.lists(st.none() | st.lists(st.integers(-3, 60), max_size=3), min_size=size, max_size=size).map(
            lambda v: pl.Series(v, dtype=pl.List(pl.Int64))
        ),
        st.lists(st.none() | st.dates(dt.date(1900, 1, 1)), min_size=size, max_size=size).map(
            lambda v: pl.Series(v, dtype=pl.Date)
        ),
        st.lists(st.none() | st.times(), min_size=size, max_size=size).map(lambda v: pl.Series(v, dtype=pl.Time)),
        st.lists(st.none() | st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)), min_size=size, max_size=size).map(
            lambda v: pl.Series(v, dtype=pl.Duration("us"))
        ),
        st.lists(st.none() | st.binary(max_size=3), min_size=size, max_size=size).map(
            lambda v: pl.Series(v, dtype=pl.Binary)
        ),
        st.just(pl.Series([None] * size, dtype=pl.Null)),
        st.just(pl.Series([{"a": 1}] * size, dtype=pl.Struct({"a": pl.Int64}))),
        st.just(pl.Series([object()] * size, dtype=pl.Object)),
    )
)
"""A column of any type, up to eight rows."""

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=2),
    st.lists(st.text(max_size=2) | st.integers(0, 5) | st.none(), max_size=3), st.just({"a": 1}), st.just(object()),
)  # fmt: skip
"""What a request may say."""
