"""Product codes of 4 bits, scanned with tables in registers (faiss's fast scan), then rescored."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import faiss
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import BundleError, ConfigError
from leanrec.index.bounded import checked_norms
from leanrec.index.library import LibraryIndex

__all__ = ["FaissPqConfig", "FaissPqIndex"]


class FaissPqConfig(Config, frozen=True, kw_only=True):
    """How coarse the codes are, and what makes up for it."""

    width: int = 1
    """Dimensions that share a code of 4 bits; it has to divide D."""
    refine: float = 4.0
    """Rows scored in full for each one that is answered."""


class FaissPqIndex(LibraryIndex):
    """D / width / 2 bytes a row, all of them scanned. `refining` changes how many are scored in full."""

    name = "faiss-pq"
    Options = FaissPqConfig

    def __init__(self, items_ND: npt.NDArray[np.float32], codes: Any, refine: float) -> None:
        """codes: a faiss IndexPQ over the table."""
        super().__init__(items_ND)
        self.more, self._codes = refine, codes
        self._scan = faiss.IndexPQFastScan(codes)

    @classmethod
    def build(cls, items_ND: npt.NDArray[np.float32], config: FaissPqConfig | None = None) -> Self:
        config = config or FaissPqConfig()
        table = np.ascontiguousarray(items_ND, np.float32)
        checked_norms(table, "item table")
        dim = table.shape[1]
        if config.width < 1 or dim % config.width:
            raise ConfigError(f"a code of {config.width} dimensions does not divide {dim}: choose another width")
        codes = faiss.IndexPQ(dim, dim // config.width, 4, faiss.METRIC_INNER_PRODUCT)
        if len(table) >= 16:
            codes.train(table)
        else:  # too few rows to learn from
            codes.train(np.random.default_rng(0).standard_normal((64, dim), dtype=np.float32))
        codes.add(table)
        return cls(table, codes, config.refine)

    def refining(self, refine: float) -> Self:
        """The same index, scoring another number of rows in full for each one that is answered."""
        other = copy(self)
        other.more = refine
        return other

    def candidates(self, queries_BD: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.integer]:
        rows: npt.NDArray[np.int64] = self._scan.search(queries_BD, count)[1]
        return rows

    def extended(self, items_ND: npt.NDArray[np.float32], added: int) -> Self:
        codes = faiss.clone_index(self._codes)
        codes.add(np.ascontiguousarray(items_ND[len(items_ND) - added :]))
        return type(self)(items_ND, codes, self.more)

    @property
    def bytes_scanned(self) -> int:
        return int(len(self.items_ND) * self._codes.pq.code_size)

    def stored(self) -> dict[str, npt.NDArray[Any]]:
        pq = self._codes.pq
        return {
            "codes": faiss.vector_to_array(self._codes.codes).reshape(len(self.items_ND), pq.code_size),
            "centroids": faiss.vector_to_array(pq.centroids).reshape(pq.M, pq.ksub, pq.dsub),
            "refine": np.array([self.more]),
        }

    @classmethod
    def restored(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        table = np.ascontiguousarray(items_ND, np.float32)
        size, dim = table.shape
        centroids, stored, refine = tensors["centroids"], tensors["codes"], float(tensors["refine"][0])
        parts, values, width = centroids.shape
        good = values == 16 and parts * width == dim and stored.shape == (size, (parts + 1) // 2)
        if not good or stored.dtype != np.uint8 or not np.isfinite(centroids).all() or not 1 <= refine < 1e6:
            raise BundleError("the product codes of the index do not fit its table: the bundle is damaged")
        codes = faiss.IndexPQ(dim, parts, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.ascontiguousarray(centroids, np.float32).reshape(-1), codes.pq.centroids)
        faiss.copy_array_to_vector(np.array(stored).reshape(-1), codes.codes)
        codes.is_trained, codes.ntotal = True, size
        return cls(table, codes, refine)
