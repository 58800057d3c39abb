"""Which way to run an encoder pays on this machine, measured at the lengths, batch sizes and threads asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import LeanrecError
from leanrec.core.jagged import Jagged
from leanrec.runtime.base import Engine
from leanrec.runtime.engines.sequence import SequenceEngine
from leanrec.runtime.ways import WAYS
from leanrec.runtime.ways.base import DrivenEngine, Way

__all__ = ["Choice", "Measured", "choose", "median_of", "overlap"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Measured:
    """One way with so many threads: seconds a call by load, how alike its answers are, and why it could not run."""

    name: str
    threads: int
    seconds: Mapping[str, float]
    overlap: float = 1.0
    """Share of the engine's own ten best items that it answers as well."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was measured, and the engine with the best way: the least time over all loads, each against the fastest."""

    engine: Engine
    best: Measured
    table: Sequence[Measured]


def choose(
    engine: SequenceEngine[Any],
    loads: Mapping[str, Jagged],
    *,
    ways: Sequence[str] = ("plain", "packed", "fixed", "onnxruntime", "openvino"),
    threads: Sequence[int] = (),
    judged: Jagged | None = None,
    least_overlap: float = 0.98,
    repeats: int = 20,
) -> Choice:
    """Measure and pick. loads: name -> histories of one call. threads: by default one, and all that there are.
    judged: histories on which answers are compared; those of the largest load where None.

    Only ways that a server may use and that keep `least_overlap` are picked; one that cannot run here has a `problem`.
    """
    counts = threads or sorted({1, len(os.sched_getaffinity(0))})
    cut = {name: histories.last(engine.window) for name, histories in loads.items()}
    judged = max(cut.values(), key=len) if judged is None else judged.last(engine.window)
    right_BD = engine.encode(judged)
    table, made = [], dict[tuple[str, int], Way]()
    for name in ways:
        for count in counts:
            try:
                way = WAYS[name](engine, count)
                same = overlap(engine.items_ND, way.encode(judged), right_BD)
                seconds = {load: median_of(partial(way.encode, cut[load]), repeats) for load in cut}
            except LeanrecError as error:
                table.append(Measured(name, count, {}, 0.0, str(error)))
                continue
            made[name, count] = way
            table.append(Measured(name, count, seconds, same))
    fit = [one for one in table if not one.problem and one.overlap >= least_overlap and WAYS[one.name].serves]
    fastest = {load: min(one.seconds[load] for one in fit) for load in cut}
    best = min(fit, key=lambda one: sum(one.seconds[load] / fastest[load] for load in cut))
    return Choice(DrivenEngine(engine, made[best.name, best.threads]), best, table)


def median_of(call: Callable[[], object], repeats: int) -> float:
    """Seconds of a call, after two to warm up."""
    took = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return float(np.median(took[2:]))


def overlap(items_ND: F32, some_BD: F32, other_BD: F32, k: int = 10) -> float:
    """Mean share of the k best items that two sets of query vectors have in common."""
    shared = 0
    for some_D, other_D in zip(some_BD, other_BD, strict=True):
        best = [set(np.argpartition(-(items_ND @ one), k - 1)[:k].tolist()) for one in (some_D, other_D)]
        shared += len(best[0] & best[1])
    return shared / (k * len(some_BD))
