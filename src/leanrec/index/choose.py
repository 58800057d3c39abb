"""Which index is the fastest on this machine for a table, among those that find enough: measured, never assumed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError, MissingExtra
from leanrec.index import INDEXES, Index
from leanrec.index.ivf import IvfIndex
from leanrec.index.vectors import ItemVectors

__all__ = ["EXACT", "Candidate", "Chosen", "Measured", "candidates_for", "choose", "recall_of"]

F32 = npt.NDArray[np.float32]
EXACT = ("exact", "certified-int8", "certified-int4")
_PROBES = (4, 8, 16, 32, 64, 128)
_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Candidate:
    """An index by name, with settings of its `Options`."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """recall: share of the true best k that is found. seconds: of a query; build_seconds: of making the index."""

    candidate: Candidate
    index: Index
    recall: float
    seconds: float
    build_seconds: float

    @property
    def bytes_scanned(self) -> int:
        return self.index.bytes_scanned


@dataclass(frozen=True, slots=True)
class Chosen:
    """table: what was measured, in the order of the candidates. best: the fastest of those that find enough."""

    table: tuple[Measured, ...]
    best: Measured


def candidates_for(recall: float) -> tuple[Candidate, ...]:
    """The exact indexes, and where less than everything will do, lists with more and more probes and a graph."""
    exact = tuple(map(Candidate, EXACT))
    if recall >= 1:
        return exact
    return (*exact, *(Candidate("ivf-int4", {"probes": probes}) for probes in _PROBES), Candidate("faiss-hnsw"))


def choose(
    vectors: ItemVectors,
    queries_QD: F32,
    *,
    k: int = 10,
    recall: float = 1.0,
    batch: int = 1,
    candidates: Sequence[Candidate] | None = None,
) -> Chosen:
    """Measure candidates with sample queries, asked `batch` at a time; the fastest that has the recall at k.

    An exact index has recall 1 by its proof. A default candidate whose package is not installed is left out. InputError
    where no query is given or nothing reaches the recall.
    """
    if not len(queries_QD):
        raise InputError("no queries to choose an index by: give a sample of those that will be asked")
    truth_QK = INDEXES["certified-int8"].over(vectors).search(queries_QD, k).items_BK
    table: list[Measured] = []
    for candidate in candidates_for(recall) if candidates is None else candidates:
        before = table[-1] if table else None
        try:
            index, made = _made(candidate, vectors, before)
        except MissingExtra:
            if candidates is not None:
                raise
            continue
        found = 1.0 if index.exact else recall_of(index, queries_QD, truth_QK)
        table.append(
            Measured(
                candidate=candidate, index=index, recall=found, seconds=_seconds(index, queries_QD, k, batch),
                build_seconds=made,
            )
        )  # fmt: skip
    enough = [one for one in table if one.recall >= recall]
    if not enough:
        raise InputError(f"no index of {len(table)} reaches a recall of {recall:g}: add an exact one, or ask for less")
    return Chosen(tuple(table), min(enough, key=lambda one: one.seconds))


def recall_of(index: Index, queries_QD: F32, truth_QK: npt.NDArray[np.int32]) -> float:
    """Mean share of a query's true rows, -1 apart, that the index answers."""
    found_QK = index.search(queries_QD, truth_QK.shape[1]).items_BK
    shares = [
        np.isin(true_K[true_K >= 0], found_K).mean() if (true_K >= 0).any() else 1.0
        for true_K, found_K in zip(truth_QK, found_QK, strict=True)
    ]
    return float(np.mean(shares))


def _made(candidate: Candidate, vectors: ItemVectors, before: Measured | None) -> tuple[Index, float]:
    """The index and the seconds it took; lists that differ from those before in the number of probes are kept."""
    start = time.perf_counter()
    if before is not None and isinstance(before.index, IvfIndex) and candidate.kind == before.candidate.kind:
        same = {**before.candidate.settings, "probes": candidate.settings.get("probes", IvfIndex.Options().probes)}
        if candidate.settings.get("probes", 0) >= 1 and same == dict(candidate.settings):
            return before.index.probing(candidate.settings["probes"]), before.build_seconds
    index = INDEXES[candidate.kind].made(vectors, candidate.settings, where=candidate.kind)
    return index, time.perf_counter() - start


def _seconds(index: Index, queries_QD: F32, k: int, batch: int) -> float:
    """Median seconds of a query over batches, after one that warms up."""
    parts = [queries_QD[low : low + batch] for low in range(0, len(queries_QD), batch)]
    index.search(parts[0], k)
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while not times or time.perf_counter() < end:
        part = parts[len(times) % len(parts)]
        start = time.perf_counter()
        index.search(part, k)
        times.append((time.perf_counter() - start) / len(part))
    return float(np.median(times))
