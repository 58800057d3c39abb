"""The contract of labelled rows: raw columns and labels in three parts, read as a stream of frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, final

import numpy as np
import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.registry import nearest

__all__ = ["HISTORY", "ITEM", "PARTS", "TIME", "USER", "Examples", "Part", "Side"]

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
Side = Literal["user", "item", "context"]

USER, ITEM, TIME, HISTORY = "user_id", "item_id", "timestamp", "history"
"""Columns that mean the same wherever they are: user and item rows (int32), the moment of the event (float64 Unix
seconds), the item rows that the user had before it (lists of int32, oldest first)."""


class Examples(ABC):
    """Labelled rows in a training, a validation and a test part.

    labels: the names of the labels, the first is the main one; each is a uint8 column of 0 and 1. columns: the raw
    feature columns with their types, in order. sides: whom each column describes: the user, the item, or the moment
    ("context"). kinds: what is known of a column's kind from the format of the log (see `features.space`).
    """

    name: str
    fingerprint: str
    labels: tuple[str, ...]
    columns: Mapping[str, pl.DataType]
    sides: Mapping[str, Side]
    kinds: Mapping[str, str]
    rate: float = 1.0
    """Share of the negatives that the training part has kept; the odds it shows are too high by 1 / rate."""

    @property
    def label(self) -> str:
        """The main label."""
        return self.labels[0]

    @abstractmethod
    def rows(self, part: Part) -> int:
        """How many rows a part has."""

    @abstractmethod
    def sample(self, part: Part, rows: int) -> pl.DataFrame:
        """About `rows` rows spread evenly over the part (all of it when it has no more), labels included."""

    @abstractmethod
    def entities(self, side: Side) -> pl.DataFrame | None:
        """The raw columns of a side, one row for each user or item row; None where the side is not known by rows."""

    @final
    def batches(
        self, part: Part, size: int, columns: Sequence[str] | None = None, *, seed: int | None = None
    ) -> Iterator[pl.DataFrame]:
        """The rows of a part, `size` at a time (the last batch may be smaller): labels, then columns.

        columns: which of them, None all. seed: shuffled by it, else in the order they are kept in.
        """
        wanted = list(self.columns) if columns is None else list(columns)
        for column in wanted:
            if column not in self.columns:
                known = ", ".join(self.columns)
                raise InputError(
                    f"{self.name} has no column {column!r}{nearest(column, list(self.columns))}; it has: {known}"
                )
        assert size >= 1 and part in PARTS
        yield from self._read(part, size, wanted, seed)

    @abstractmethod
    def _read(self, part: Part, size: int, columns: list[str], seed: int | None) -> Iterator[pl.DataFrame]:
        """What `batches` promises, for columns that there are."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{part} {self.rows(part):,}" for part in PARTS)
        return f"{type(self).__name__}({self.name!r}, {counts}, labels {', '.join(self.labels)})"


def evenly(total: int, rows: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """At most `rows` places spread evenly over `total`."""
    return np.unique(np.linspace(0, total - 1, min(rows, total)).astype(np.int64)) if total else np.empty(0, np.int64)
