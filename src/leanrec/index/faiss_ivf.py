"""Lists around centroids of which a query scans the nearest in float32, by faiss."""

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
from leanrec.index.clusters import assign, centroids_of
from leanrec.index.library import LibraryIndex

__all__ = ["FaissIvfConfig", "FaissIvfIndex"]


class FaissIvfConfig(Config, frozen=True, kw_only=True):
    """How a table is cut into lists, and how many of them a query scans."""

    lists: int | None = None
    """Lists; None: four times the square root of the rows."""
    probes: int = 32
    """Lists that a query scans."""
    iterations: int = 8
    """Rounds of k-means on a sample."""
    seed: int = 0


class FaissIvfIndex(LibraryIndex):
    """The table (copied by faiss, list by list), centroids, and the list of each row. `probing` changes `probes`."""

    name = "faiss-ivf"
    Options = FaissIvfConfig

    def __init__(
        self,
        items_ND: npt.NDArray[np.float32],
        centroids_LD: npt.NDArray[np.float32],
        list_N: npt.NDArray[np.int32],
        probes: int,
    ) -> None:
        super().__init__(items_ND)
        self.centroids_LD, self.list_N, self.probes = np.ascontiguousarray(centroids_LD, np.float32), list_N, probes
        self._quantizer = faiss.IndexFlatIP(self.centroids_LD.shape[1])
        self._quantizer.add(self.centroids_LD)
        self._lists = faiss.IndexIVFFlat(
            self._quantizer, self.centroids_LD.shape[1], len(self.centroids_LD), faiss.METRIC_INNER_PRODUCT
        )
        self._lists.is_trained = True
        rows, where = np.arange(len(items_ND), dtype=np.int64), np.ascontiguousarray(list_N, np.int64)
        self._lists.add_core(
            len(rows), faiss.swig_ptr(self.items_ND), faiss.swig_ptr(rows), faiss.swig_ptr(where)
        )  # fmt: skip

    @classmethod
    def build(cls, items_ND: npt.NDArray[np.float32], config: FaissIvfConfig | None = None) -> Self:
        config = config or FaissIvfConfig()
        table = np.ascontiguousarray(items_ND, np.float32)
        checked_norms(table, "item table")
        size = len(table)
        lists = min(max(1, config.lists or int(4 * size**0.5)), max(1, size))
        centroids_LD = centroids_of(table, lists, config.iterations, config.seed)
        return cls(table, centroids_LD, assign(table, centroids_LD), config.probes)

    def probing(self, probes: int) -> Self:
        """The same index, scanning another number of lists."""
        other = copy(self)
        other.probes = probes
        return other

    def candidates(self, queries_BD: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.integer]:
        told = faiss.SearchParametersIVF(nprobe=min(self.probes, len(self.centroids_LD)))
        rows: npt.NDArray[np.int64] = self._lists.search(queries_BD, count, params=told)[1]
        return rows

    def extended(self, items_ND: npt.NDArray[np.float32], added: int) -> Self:
        new = assign(items_ND[len(items_ND) - added :], self.centroids_LD)
        return type(self)(items_ND, self.centroids_LD, np.concatenate([self.list_N, new]), self.probes)

    @property
    def bytes_scanned(self) -> int:
        """Of an average query."""
        share = min(1.0, self.probes / len(self.centroids_LD))
        return self.centroids_LD.nbytes + int(share * self.items_ND.nbytes)

    def stored(self) -> dict[str, npt.NDArray[Any]]:
        return {"centroids": self.centroids_LD, "lists": self.list_N, "probes": np.array([self.probes], np.int64)}

    @classmethod
    def restored(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        table = np.ascontiguousarray(items_ND, np.float32)
        centroids, lists, probes = tensors["centroids"], tensors["lists"], int(tensors["probes"][0])
        good = (
            centroids.ndim == 2
            and centroids.shape[1:] == table.shape[1:]
            and lists.shape == (len(table),)
            and lists.min(initial=0) >= 0
            and lists.max(initial=0) < len(centroids)
            and probes >= 1
        )
        if not good:
            raise BundleError("the lists of the index do not fit its table: the bundle is damaged")
        return cls(table, centroids, np.array(lists, np.int32), probes)
