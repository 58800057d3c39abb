"""Graphs of other libraries over an item table, by inner product: built once, kept under .cache/graphs/ with the time
that building took.

`python -m benchmarks.graphs TABLE` builds the first of each library for a large table (`1m-64`), an hour's work.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import ROOT, THREADS
from benchmarks.retrieval import F32, Search, synthetic

__all__ = ["LARGE", "LIBRARIES", "SMALL", "Graph", "graph", "graph_file", "is_built"]

CACHE = ROOT / ".cache" / "graphs"
SMALL = tuple(
    (program, edges, 200)
    for program, several in (("faiss HNSW", (16, 32)), ("usearch HNSW", (16, 32)), ("scalable-vs Vamana", (64,)))
    for edges in several
)
"""Library, edges, and the window of candidates that building looks at. HNSW has twice its edges on its lowest floor."""
LARGE = (
    ("scalable-vs Vamana", 64, 200), ("faiss HNSW", 32, 200), ("usearch HNSW", 32, 200),
    ("scalable-vs Vamana", 128, 300), ("faiss HNSW", 64, 200), ("usearch HNSW", 64, 200),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Graph:
    """search: from a depth of looking to a search. seconds: what building took, when it was built."""

    search: Callable[[int], Search]
    seconds: float


def graph(program: str, items_ND: F32, edges: int, window: int) -> Graph:
    """The graph, from the cache if it was built before."""
    place, spent = _built(program, items_ND, edges, window)
    return Graph(LIBRARIES[program].load(items_ND, place), spent)


def graph_file(program: str, items_ND: F32, edges: int, window: int) -> tuple[Path, float]:
    """Where the cache has the graph of a library that writes one file, and the seconds that building took."""
    place, spent = _built(program, items_ND, edges, window)
    return place / "graph", spent


def _built(program: str, items_ND: F32, edges: int, window: int) -> tuple[Path, float]:
    place = _place(program, items_ND, edges, window)
    said = place / "seconds.json"
    if not said.exists():
        place.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        keep = LIBRARIES[program].build(items_ND, edges, window)
        spent = time.perf_counter() - start
        keep(place)
        said.write_text(json.dumps(spent))
    return place, json.loads(said.read_text())


def is_built(program: str, items_ND: F32, edges: int, window: int) -> bool:
    """Whether the cache has it."""
    return (_place(program, items_ND, edges, window) / "seconds.json").exists()


def _place(program: str, items_ND: F32, edges: int, window: int) -> Path:
    table = hashlib.sha256(np.ascontiguousarray(items_ND)).hexdigest()[:12]
    return CACHE / f"{table}-{program.replace(' ', '-')}-{edges}-{window}"


class _Faiss:
    @staticmethod
    def build(items_ND: F32, edges: int, window: int) -> Callable[[Path], None]:
        import faiss

        faiss.omp_set_num_threads(THREADS)
        made = faiss.IndexHNSWFlat(items_ND.shape[1], edges, faiss.METRIC_INNER_PRODUCT)
        made.hnsw.efConstruction = window
        made.add(items_ND)
        return lambda place: faiss.write_index(made, str(place / "graph"))

    @staticmethod
    def load(items_ND: F32, place: Path) -> Callable[[int], Search]:
        import faiss

        faiss.omp_set_num_threads(THREADS)
        made = faiss.read_index(str(place / "graph"))

        def looking(depth: int) -> Search:
            told = faiss.SearchParametersHNSW(efSearch=depth)
            return lambda queries, k: made.search(queries, k, params=told)[1]

        return looking


class _Usearch:
    @staticmethod
    def build(items_ND: F32, edges: int, window: int) -> Callable[[Path], None]:
        from usearch.index import Index

        made = Index(ndim=items_ND.shape[1], metric="ip", dtype="f32", connectivity=edges, expansion_add=window)
        made.add(np.arange(len(items_ND), dtype=np.uint64), items_ND, threads=THREADS)
        return lambda place: made.save(str(place / "graph"))

    @staticmethod
    def load(items_ND: F32, place: Path) -> Callable[[int], Search]:
        from usearch.index import Index

        made = Index.restore(str(place / "graph"))

        def looking(depth: int) -> Search:
            def search(queries_BD: F32, k: int) -> npt.NDArray[np.integer[Any]]:
                made.expansion_search = depth
                found: npt.NDArray[np.uint64] = made.search(queries_BD, k, threads=THREADS).keys
                return found.astype(np.int64).reshape(len(queries_BD), k)

            return search

        return looking


class _Svs:
    _PARTS = ("config", "graph", "data")

    @classmethod
    def build(cls, items_ND: F32, edges: int, window: int) -> Callable[[Path], None]:
        import svs

        told = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=edges, window_size=window)
        made = svs.Vamana.build(told, items_ND, svs.DistanceType.MIP, num_threads=THREADS)
        return lambda place: made.save(*(str(place / part) for part in cls._PARTS))

    @classmethod
    def load(cls, items_ND: F32, place: Path) -> Callable[[int], Search]:
        import svs

        config, links, data = (str(place / part) for part in cls._PARTS)
        rows = svs.VectorDataLoader(data, svs.DataType.float32, items_ND.shape[1])
        made = svs.Vamana(config, svs.GraphLoader(links), rows, svs.DistanceType.MIP, num_threads=THREADS)

        def looking(depth: int) -> Search:
            def search(queries_BD: F32, k: int) -> npt.NDArray[np.integer[Any]]:
                made.search_window_size = depth
                found: npt.NDArray[np.uint64] = made.search(queries_BD, k)[0]
                return found.astype(np.int64)

            return search

        return looking


LIBRARIES: dict[str, Any] = {"faiss HNSW": _Faiss, "usearch HNSW": _Usearch, "scalable-vs Vamana": _Svs}


def _main() -> None:
    table = synthetic(sys.argv[1], 1)
    for program, edges, window in LARGE[: len(LIBRARIES)]:
        print(f"{program}, {edges} edges, window {window}: ", end="", flush=True)
        print(f"{graph(program, table.items_ND, edges, window).seconds:,.0f} s", flush=True)


if __name__ == "__main__":
    _main()
