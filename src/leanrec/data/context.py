"""What the moment of an event was like (device, page, weather): further columns of the log, kept beside the events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.data.scratch import Column, Scratch

__all__ = ["CONTEXT_ROLE", "Context", "Moments", "context_arrays", "read_context"]

CONTEXT_ROLE = "context:"
"""How the role of such a column begins; its own name follows."""


@dataclass(frozen=True, slots=True)
class Context:
    """(T,) a column in the layout of the events: float64 with NaN where missing, or int32 codes of texts, then -1."""

    values: npt.NDArray[Any]
    texts: Vocabulary | None = None

    @property
    def dtype(self) -> pl.DataType:
        return pl.Float64() if self.texts is None else pl.String()

    def series(self, name: str, events: npt.NDArray[np.int64]) -> pl.Series:
        """The column of some events; null where missing."""
        some = self.values[events]
        if self.texts is None:
            return pl.Series(name, some, nan_to_null=True)
        texts = pl.Series(self.texts.ids(), dtype=pl.String)
        return texts.gather(pl.Series(np.where(some < 0, 0, some))).set(pl.Series(some < 0), None).alias(name)


class Moments:
    """Such a column while it streams in."""

    def __init__(self, name: str, dtype: pl.DataType, where: str, scratch: Scratch) -> None:
        if isinstance(dtype, pl.List | pl.Array | pl.Struct | pl.Binary):
            raise InputError(f"{where}: the context column {name!r} holds {dtype}, not one number or text a row")
        self._plain = dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean
        self._column = Column(scratch)
        self._pool = pl.Categories.random()
        # Polars forgets the texts of a pool when no series of it is left.
        self._alive = pl.Series([], dtype=pl.Categorical(self._pool))

    def append(self, column: pl.Series) -> None:
        """The rows of a batch that are kept."""
        if self._plain:
            numbers = column.dt.timestamp("us") / 1e6 if column.dtype == pl.Datetime else column.to_physical()
            self._column.append(numbers.cast(pl.Float64).fill_null(float("nan")).to_numpy().copy())
            return
        codes = column.cast(pl.String).cast(pl.Categorical(self._pool)).to_physical()
        self._column.append(codes.cast(pl.Int32).fill_null(-1).to_numpy().copy())

    def finish(self) -> tuple[list[npt.NDArray[Any]], Vocabulary | None]:
        """The parts as they were appended, and the texts of the codes."""
        texts = None if self._plain else Vocabulary(self._pool.to_series().to_list())
        return self._column.finish(), texts


def context_arrays(context: Mapping[str, Context]) -> dict[str, npt.NDArray[Any]]:
    """What is stored of them; `read_context` reads it back."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, column in context.items():
        arrays[f"values:{name}"] = column.values
        if column.texts is not None:
            arrays |= {f"{part}:{name}": array for part, array in column.texts.tensors().items()}
    return arrays


def read_context(arrays: Mapping[str, npt.NDArray[Any]], events: int) -> dict[str, Context]:
    """ValueError when a column does not fit the events or its texts."""
    context = {}
    for key, values in arrays.items():
        part, _, name = key.partition(":")
        if part != "values":
            continue
        own = {k.partition(":")[0]: array for k, array in arrays.items() if k.partition(":")[2] == name}
        texts = Vocabulary.from_tensors(own) if "erased" in own else None
        if (values.shape, values.dtype) != ((events,), np.dtype(np.float64 if texts is None else np.int32)):
            raise ValueError(f"the context column {name!r} has shape {values.shape} and type {values.dtype}")
        if texts is not None and events and not -1 <= values.min() <= values.max() < len(texts):
            raise ValueError(f"a code of the context column {name!r} is out of range")
        context[name] = Context(values, texts)
    return context
