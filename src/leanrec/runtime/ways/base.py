"""The contract of a way to carry out an encoder, and the engine that is carried out by one.

A bundle stays what it is, arrays and a configuration: a way builds what it runs (packed arrays, a graph) from the
engine's checked arrays when it is loaded, and nothing is ever executed from a file that came with the bundle.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.console import say
from leanrec.core.errors import BundleError, InputError, MissingExtra
from leanrec.core.jagged import Jagged
from leanrec.index.vectors import ItemVectors
from leanrec.runtime.base import Engine, TimedEngine
from leanrec.runtime.engines.sequence import SequenceEngine

__all__ = ["DrivenEngine", "Way", "drive", "padded_groups", "refuse_kind", "vectors_at"]

F32 = npt.NDArray[np.float32]
AnyEngine = SequenceEngine[Any]


class Way(ABC):
    """Made once from an engine, then called from any thread. InputError where the engine's kind or shape is not for it.

    threads: at most so many for one call.
    """

    name: ClassVar[str]
    serves: ClassVar[bool] = True
    """Whether a server may use it. What needs torch, or answers by what else is asked or by the processor, is only
    there to be measured.
    """
    exact: ClassVar[bool] = True
    """Whether vectors are the engine's own up to float32 rounding."""

    def __init__(self, engine: AnyEngine, threads: int) -> None:
        self.engine, self.threads = engine, threads

    @abstractmethod
    def encode(self, histories: Jagged) -> F32:
        """(B, D) of B non-empty histories within the engine's window."""


class DrivenEngine:
    """An engine that a way carries out; in a bundle it is the engine, and the name of the way."""

    kind: ClassVar[str]

    def __init__(self, engine: AnyEngine, way: Way, wanted: Mapping[str, Any] | None = None) -> None:
        self.engine, self.driver = engine, way
        self.kind: str = engine.kind  # type: ignore[misc]
        self.way = dict(wanted or {"name": way.name, "threads": way.threads})
        """What the manifest says of it: what was asked for, also on a machine that cannot do it."""

    @property
    def dim(self) -> int:
        return self.engine.dim

    @property
    def window(self) -> int:
        """Events of a history that count, the newest."""
        return self.engine.window

    def encode(self, histories: Jagged) -> F32:
        """(B, D) vectors of B non-empty histories."""
        if not len(histories):
            return np.empty((0, self.dim), np.float32)
        return self.driver.encode(histories.last(self.window))

    def config(self) -> dict[str, Any]:
        return self.engine.config()

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return self.engine.tensors()

    @property
    def items_ND(self) -> F32:
        """(N, D) the item table."""
        return self.engine.items_ND

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: F32 | ItemVectors) -> Self:
        raise NotImplementedError("the engine is loaded, then driven")


def drive(engine: Engine, wanted: Mapping[str, Any] | None) -> Engine:
    """The engine, carried out as a manifest wants it; as it is where this machine lacks the package, which is said.

    A BundleError says what is wrong with a manifest that wants what there is not, or an encoder cannot.
    """
    from leanrec.runtime.ways import WAYS

    if wanted is None:
        return engine
    if set(wanted) != {"name", "threads"} or type(wanted["threads"]) is not int or wanted["threads"] < 1:
        raise BundleError(f"the bundle's way to run its encoder is not one: {str(wanted)[:100]}")
    name, threads = wanted["name"], min(wanted["threads"], len(os.sched_getaffinity(0)))
    if not isinstance(engine, SequenceEngine) or isinstance(engine, TimedEngine):  # ways know no times
        raise BundleError(f"an encoder of kind {engine.kind!r} has no other ways to run")
    try:
        way = WAYS[name]
        if not way.serves:
            raise BundleError(f"{name!r} is a way to measure, not to serve")
        return DrivenEngine(engine, way(engine, threads), wanted)
    except MissingExtra as error:
        say(f"{error}; until then the encoder runs without it")
        return DrivenEngine(engine, WAYS["plain"](engine, threads), wanted)
    except InputError as error:
        raise BundleError(str(error)) from error


def refuse_kind(engine: AnyEngine, name: str, kinds: tuple[str, ...]) -> None:
    """InputError for an engine that a way cannot carry out."""
    if engine.kind not in kinds:
        known = ", ".join(kinds)
        raise InputError(f"an encoder of kind {engine.kind!r} cannot run as {name!r}: that works for {known}")


def vectors_at(engine: AnyEngine, rows_BL: npt.NDArray[np.int64]) -> F32:
    """(B, L, D) item vectors, of which only those asked for are decoded."""
    return engine.items.gather(rows_BL.ravel()).reshape(*rows_BL.shape, engine.dim)


def padded_groups(
    histories: Jagged, most: int = 8192
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(places, rows (b, L) padded behind, lengths (b,)) of histories of about one length, `most` tokens at a time."""
    lengths = histories.lengths
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order):
            longest = lengths[order[stop]]
            if (stop + 1 - start) * longest > most or longest > 1.25 * lengths[order[start]] + 4:
                break
            stop += 1
        places = order[start:stop]
        rows = np.zeros((len(places), lengths[places[-1]]), np.int64)
        for place, history in enumerate(places):
            rows[place, : lengths[history]] = histories[history]
        yield places, rows, lengths[places]
        start = stop
