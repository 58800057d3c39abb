"""A graph of near neighbours in layers (Malkov and Yashunin, HNSW), by faiss."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import faiss
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import BundleError
from leanrec.index.bounded import checked_norms
from leanrec.index.library import LibraryIndex

__all__ = ["FaissHnswConfig", "FaissHnswIndex"]

_DEEPEST = 1 << 20
"""Candidates that a stored graph may have a search keep: room is made for all of them."""


class FaissHnswConfig(Config, frozen=True, kw_only=True):
    """The graph, and how much of it a search looks at."""

    neighbours: int = 32
    """Edges a node (M); the lowest layer has twice as many."""
    build_depth: int = 200
    """Candidates looked at for the edges of a new node (efConstruction)."""
    depth: int = 128
    """Candidates a search keeps (efSearch); at least those asked for."""


class FaissHnswIndex(LibraryIndex):
    """The table (copied by faiss) and a graph over it. `looking` changes `depth`, the candidates a search keeps."""

    name = "faiss-hnsw"
    Options = FaissHnswConfig

    def __init__(self, items_ND: npt.NDArray[np.float32], graph: Any) -> None:
        """graph: a faiss IndexHNSWFlat over the table."""
        super().__init__(items_ND)
        self._graph, self.depth = graph, int(graph.hnsw.efSearch)

    @classmethod
    def build(cls, items_ND: npt.NDArray[np.float32], config: FaissHnswConfig | None = None) -> Self:
        config = config or FaissHnswConfig()
        table = np.ascontiguousarray(items_ND, np.float32)
        checked_norms(table, "item table")
        graph = faiss.IndexHNSWFlat(table.shape[1], config.neighbours, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = config.build_depth, config.depth
        graph.add(table)
        return cls(table, graph)

    def looking(self, depth: int) -> Self:
        """The same index, with another number of candidates that a search keeps."""
        other = copy(self)
        other.depth = depth
        return other

    def candidates(self, queries_BD: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.integer]:
        depth = max(self.depth, count)
        rows: npt.NDArray[np.int64] = self._graph.search(
            queries_BD, count, params=faiss.SearchParametersHNSW(efSearch=depth)
        )[1]
        return rows

    def extended(self, items_ND: npt.NDArray[np.float32], added: int) -> Self:
        graph = faiss.clone_index(self._graph)
        graph.hnsw.efSearch = self.depth
        graph.add(np.ascontiguousarray(items_ND[len(items_ND) - added :]))
        return type(self)(items_ND, graph)

    @property
    def bytes_scanned(self) -> int:
        """Of an average query, when the search meets all neighbours of the candidates it keeps."""
        hnsw = self._graph.hnsw
        met = min(len(self.items_ND), self.depth * hnsw.nb_neighbors(0))
        return int(met * 4 * (self.items_ND.shape[1] + 1))

    def stored(self) -> dict[str, npt.NDArray[Any]]:
        hnsw = self._graph.hnsw
        facts = [hnsw.entry_point, hnsw.max_level, hnsw.efConstruction, self.depth, hnsw.nb_neighbors(1)]
        return {
            "neighbours": faiss.vector_to_array(hnsw.neighbors).astype(np.int32),
            "offsets": faiss.vector_to_array(hnsw.offsets).astype(np.int64),
            "levels": faiss.vector_to_array(hnsw.levels).astype(np.int32),
            "facts": np.array(facts, np.int64),
        }

    @classmethod
    def restored(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        table = np.ascontiguousarray(items_ND, np.float32)
        neighbours, offsets, levels = (np.array(tensors[name]) for name in ("neighbours", "offsets", "levels"))
        entry, top, build_depth, depth, edges = (int(fact) for fact in tensors["facts"])
        size = len(table)
        graph = faiss.IndexHNSWFlat(table.shape[1], min(max(edges, 2), 1024), faiss.METRIC_INNER_PRODUCT)
        per_level = np.array([graph.hnsw.cum_nb_neighbors(level) for level in range(int(levels.max(initial=0)) + 1)])
        good = (
            levels.shape == (size,)
            and offsets.shape == (size + 1,)
            and edges == graph.hnsw.nb_neighbors(1)
            and (levels >= 1).all()
            and int(levels.max(initial=0)) == top + 1
            and offsets[0] == 0
            and (np.diff(offsets) == per_level[levels]).all()
            and offsets[-1] == len(neighbours)
            and (neighbours.min(initial=-1) >= -1 and neighbours.max(initial=-1) < size)
            and (-1 <= entry < size and (entry >= 0) == (size > 0))
            and (1 <= depth <= _DEEPEST and 1 <= build_depth <= _DEEPEST)
        )
        if not good or (size and levels[entry] != top + 1) or not _climbs(neighbours, offsets, levels, per_level):
            raise BundleError("the graph of the index is not one over its table: the bundle is damaged")
        graph.storage.add(table)
        graph.ntotal = size
        hnsw = graph.hnsw
        faiss.copy_array_to_vector(neighbours.astype(np.int32), hnsw.neighbors)
        faiss.copy_array_to_vector(offsets.astype(np.uint64), hnsw.offsets)
        faiss.copy_array_to_vector(levels.astype(np.int32), hnsw.levels)
        hnsw.entry_point, hnsw.max_level, hnsw.efConstruction, hnsw.efSearch = entry, top, build_depth, depth
        return cls(table, graph)


def _climbs(
    neighbours: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    levels: npt.NDArray[np.int32],
    per_level: npt.NDArray[np.int64],
) -> bool:
    """Whether an edge on a layer always leads to a node that stands on that layer too: the search relies on it."""
    for level in range(1, len(per_level) - 1):
        for node in np.flatnonzero(levels > level):
            first, last = offsets[node] + per_level[level], offsets[node] + per_level[level + 1]
            met = neighbours[first:last]
            if (levels[met[met >= 0]] <= level).any():
                return False
    return True
