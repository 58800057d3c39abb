"""Lists around centroids, of which a query scans the nearest: 4-bit planes with bounds inside a list, full rows after.

What is answered is exact among the rows of the scanned lists, so recall is lost by unscanned lists alone. Rows stand
list by list; rows added later stand behind all lists and are scanned by every query until the index is built again.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits
from leanrec.index.base import Index, answerable, marked, padded, removed_rows, stored_removed
from leanrec.index.bounded import Exclusions, checked_norms, frozen, stored
from leanrec.index.clusters import assign, centroids_of
from leanrec.index.planes import CertifiedInt4Index, asked_of
from leanrec.kernels.probe import probe_lists, probe_lists_parallel
from leanrec.kernels.scan import finish_all
from leanrec.kernels.topk import new_state

__all__ = ["IvfConfig", "IvfIndex"]

_QUERIES = 256


class IvfConfig(Config, frozen=True, kw_only=True):
    """How a table is cut into lists, and how many of them a query scans."""

    lists: int | None = None
    """Lists; None: four times the square root of the rows."""
    probes: int = 32
    """Lists that a query scans; where a filter allows a share of the rows, so many times more."""
    iterations: int = 8
    """Rounds of k-means on a sample."""
    seed: int = 0


class IvfIndex(Index):
    """Centroids and lists of 4-bit planes. `probes` may be changed at any time with `probing`."""

    name = "ivf-int4"
    Options = IvfConfig
    exact = False

    def __init__(
        self,
        codes: CertifiedInt4Index,
        edges_L: npt.NDArray[np.int64],
        centroids_LD: npt.NDArray[np.float32],
        probes: int,
    ) -> None:
        """codes: over the table, list by list. edges_L: (lists + 1) the place where each list begins."""
        self.items_ND = codes.items_ND
        self.codes, self.probes = codes, probes
        self.edges_L = frozen(edges_L, np.int64)
        self.centroids_LD = frozen(centroids_LD, np.float32)

    @property
    def rows_N(self) -> npt.NDArray[np.int32]:
        """The row at each place."""
        return self.codes.order_N

    @classmethod
    def build(cls, items_ND: npt.NDArray[np.float32], config: IvfConfig | None = None) -> Self:
        config = config or IvfConfig()
        table = frozen(items_ND, np.float32)
        checked_norms(table, "item table")
        size = len(table)
        lists = min(max(1, config.lists or int(4 * size**0.5)), max(1, size))
        centroids_LD = centroids_of(table, lists, config.iterations, config.seed)
        list_N = assign(table, centroids_LD)
        rows_N = np.argsort(list_N, kind="stable").astype(np.int32)
        edges_L = np.concatenate([[0], np.bincount(list_N, minlength=lists).cumsum()])
        codes = CertifiedInt4Index(table, **CertifiedInt4Index.placed(table, rows_N))
        return cls(codes, edges_L, centroids_LD, config.probes)

    def probing(self, probes: int) -> Self:
        """The same index, scanning another number of lists."""
        other = copy(self)
        other.probes = probes
        return other

    def search(
        self,
        queries_BD: npt.NDArray[np.float32],
        k: int,
        exclude: Jagged | None = None,
        allowed_N: npt.NDArray[np.bool_] | None = None,
    ) -> Hits:
        batch, size = len(queries_BD), len(self.items_ND)
        assert k >= 1, "k starts at 1"
        hits = Hits.none(batch, k)
        if batch == 0 or size == 0:
            return hits
        allowed_N = answerable(self, allowed_N)
        lists = len(self.centroids_LD)
        share = 1.0 if allowed_N is None else max(float(np.mean(allowed_N)), 1 / size)
        probes = min(lists, int(np.ceil(self.probes / share)))
        for start in range(0, batch, _QUERIES):
            part = slice(start, min(start + _QUERIES, batch))
            queries = frozen(queries_BD[part], np.float32)
            checked_norms(queries, "query vectors")
            some = None if exclude is None else exclude.slice(part.start, part.stop)
            skip = Exclusions.of(len(queries), some, allowed_N, size)
            state = new_state(1, len(queries), min(k, size))
            run = probe_lists if len(queries) == 1 else probe_lists_parallel
            run(
                state, self.codes.table(), asked_of(queries, self.codes.low_NH.shape[1]), self.edges_L,
                queries @ self.centroids_LD.T, probes, skip.rows_E, skip.offsets, skip.allowed_N,
            )  # fmt: skip
            finish_all(state, self.items_ND, queries, hits.items_BK[part], hits.scores_BK[part])
        return hits

    def add(self, items_MD: npt.NDArray[np.float32]) -> Self:
        codes = self.codes.add(items_MD)
        grown = type(self)(codes, self.edges_L, self.centroids_LD, self.probes)
        if len(self.removed_N):
            grown.removed_N = padded(self.removed_N, len(codes.items_ND))
        return grown

    def remove(self, rows: npt.NDArray[np.integer]) -> Self:
        left = copy(self)
        left.removed_N = marked(self, rows)
        return left

    @property
    def bytes_scanned(self) -> int:
        """Of an average query."""
        share = min(1.0, self.probes / max(1, len(self.centroids_LD)))
        return self.centroids_LD.nbytes + int(share * self.codes.bytes_scanned)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        own: dict[str, npt.NDArray[Any]] = {
            "rows": self.rows_N, "edges": self.edges_L, "centroids": self.centroids_LD,
            "probes": np.array([self.probes], np.int64),
        }  # fmt: skip
        codes = {name: array for name, array in self.codes.tensors().items() if name != "order"}
        return {**codes, **own, **removed_rows(self)}

    @classmethod
    def from_tensors(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        size = len(items_ND)
        rows, edges, probes = tensors["rows"], tensors["edges"], tensors["probes"]
        once_N = np.zeros(size, np.bool_)
        once_N[rows[(rows >= 0) & (rows < size)]] = True
        whole = rows.shape == (size,) and once_N.all()
        if not whole or edges[0] != 0 or (np.diff(edges) < 0).any() or edges[-1] > size or probes[0] < 1:
            raise BundleError("the lists of the index do not hold the rows of its table: the bundle is damaged")
        centroids = stored(tensors, "centroids", np.float32, (len(edges) - 1, *items_ND.shape[1:]))
        plain = {name: array for name, array in tensors.items() if name != "removed"}
        codes = CertifiedInt4Index.from_tensors(items_ND, {**plain, "order": rows})
        index = cls(codes, edges, centroids, int(probes[0]))
        index.removed_N = stored_removed(tensors, size)
        return index
