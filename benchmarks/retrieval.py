"""What the benchmarks of retrieval share: tables with queries, exact peers, an oracle in float64."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import THREADS
from benchmarks.trained import RUNS, trained
from leanrec.index.bounded import BoundedIndex, Proof
from leanrec.kernels.blas import blas_threads
from leanrec.kernels.topk import canonical_scores_reference
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

F32 = npt.NDArray[np.float32]
Search = Callable[[F32, int], npt.NDArray[np.integer[Any]]]
"""(B, D) queries and k to (B, k) rows."""


@dataclass(frozen=True, slots=True)
class Table:
    """items_ND and queries_QD, and where they come from."""

    name: str
    items_ND: F32
    queries_QD: F32


def gaussian(size: int, dim: int, queries: int) -> Table:
    """Independent standard normal values: nothing to prune by."""
    rng = np.random.default_rng(0)
    items_ND = rng.standard_normal((size, dim), dtype=np.float32)
    return Table(f"Gaussian, {size:,} x {dim}", items_ND, rng.standard_normal((queries, dim), dtype=np.float32))


def encoded(name: str, bundle: Recommender, histories: Any, queries: int) -> Table:
    """The item table of a trained recommender, and what it makes of histories as they are asked."""
    source = bundle.source
    assert isinstance(source, EmbeddingSource)
    known = np.flatnonzero(histories.lengths)
    chosen = np.random.default_rng(0).permutation(known)[:queries]
    queries_QD = source.engine.encode(histories.take(chosen))
    items_ND = np.array(source.index.items_ND)  # in memory, as the peers hold theirs
    return Table(f"{name}, {len(items_ND):,} x {items_ND.shape[1]}", items_ND, np.ascontiguousarray(queries_QD))


def synthetic(run: str, queries: int) -> Table:
    """One of the models of `benchmarks.trained`, asked with histories of its test users."""
    made = trained(run)
    return encoded(f"{RUNS[run][1]} {run}", Recommender.load(made.run), made.dataset().cases("test").histories, queries)


def peers(table: Table) -> Iterator[tuple[str, Search]]:
    """Exact search in float32, each as its library recommends it, with the agreed number of threads."""
    import faiss
    import torch
    from usearch.index import MetricKind, search

    items_ND = table.items_ND

    def plain(queries_BD: F32, k: int) -> npt.NDArray[np.integer[Any]]:
        scores_BN = queries_BD @ items_ND.T if len(queries_BD) > 1 else (items_ND @ queries_BD[0])[None]
        best_BK = np.argpartition(scores_BN, -k, axis=1)[:, -k:]
        order_BK = np.argsort(-np.take_along_axis(scores_BN, best_BK, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best_BK, order_BK, axis=1)

    torch.set_num_threads(THREADS)
    tensor_ND = torch.from_numpy(items_ND)

    def by_torch(queries_BD: F32, k: int) -> npt.NDArray[np.integer[Any]]:
        asked_BD = torch.from_numpy(queries_BD)
        scores_BN = asked_BD @ tensor_ND.T if len(queries_BD) > 1 else (tensor_ND @ asked_BD[0])[None]
        return scores_BN.topk(k).indices.numpy()

    faiss.omp_set_num_threads(THREADS)
    flat = faiss.IndexFlatIP(items_ND.shape[1])
    flat.add(items_ND)
    yield "NumPy", plain
    yield "torch", by_torch
    yield "faiss flat", lambda queries_BD, k: flat.search(queries_BD, k)[1]
    yield (
        "usearch exact",
        lambda queries_BD, k: search(items_ND, queries_BD, k, MetricKind.IP, exact=True, threads=THREADS).keys.reshape(
            len(queries_BD), k
        ),
    )


def seconds(search: Search, queries_QD: F32, batch: int, k: int) -> float:
    """Seconds a query, the queries asked in batches."""
    start = time.perf_counter()
    for first in range(0, len(queries_QD), batch):
        search(queries_QD[first : first + batch], k)
    return (time.perf_counter() - start) / len(queries_QD)


def oracle(table: Table, k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(Q, k) rows by falling float64 score, equal ones by row; and all (Q, N) scores."""
    wide_DQ = table.queries_QD.astype(np.float64).T
    scores_QN = np.concatenate(
        [table.items_ND[at : at + 65536].astype(np.float64) @ wide_DQ for at in range(0, len(table.items_ND), 65536)]
    ).T
    best_QK = np.empty((len(scores_QN), k), np.int64)
    for q, scores_N in enumerate(scores_QN):
        near = np.argpartition(-scores_N, 2 * k)[: 2 * k]
        best_QK[q] = near[np.lexsort((near, -scores_N[near]))][:k]
    return best_QK, scores_QN


def agrees(
    rows_QK: npt.NDArray[np.integer[Any]], best_QK: npt.NDArray[np.int64], scores_QN: npt.NDArray[np.float64]
) -> bool:
    """The oracle's rows in its order, but that scores within 1e-6 of each other (by the largest) may change places."""
    ours = np.take_along_axis(scores_QN, rows_QK.astype(np.int64), axis=1)
    right = np.take_along_axis(scores_QN, best_QK, axis=1)
    near = np.abs(ours - right) <= 1e-6 * np.abs(right).max(axis=1, keepdims=True)
    distinct = all(len(np.unique(rows_K)) == rows_QK.shape[1] for rows_K in rows_QK)
    return distinct and bool(((rows_QK == best_QK) | near).all())


def certified(index: BoundedIndex, queries_QD: F32, rows_QK: npt.NDArray[np.integer[Any]], proof: Proof) -> bool:
    """Recompute why the answer is exact: k rows reach the threshold, and are the best of all that may.

    Bounds and scores come from NumPy, not from the scan.
    """
    for query_D, rows_K, threshold in zip(queries_QD, rows_QK, proof.thresholds_B, strict=True):
        kept = np.flatnonzero(index.bounds(query_D)[1] >= threshold).astype(np.int32)
        scores = canonical_scores_reference(index.items_ND, kept, query_D[None], np.zeros(len(kept), np.int64))
        best = np.lexsort((kept, -scores))[: len(rows_K)]
        if scores[best].min() < threshold or not (kept[best] == rows_K).all():
            return False
    return True


def read_seconds(count: int) -> float:
    """The floor: a plain read of so many bytes, once by each thread's share, the best of several."""
    words = np.ones(max(THREADS, count // 4), np.float32)
    shares = np.array_split(words, THREADS)
    best = np.inf
    with blas_threads(1), ThreadPoolExecutor(THREADS) as pool:
        for _ in range(20):
            start = time.perf_counter()
            for _ in pool.map(lambda share: np.dot(share, share), shares):
                pass
            best = min(best, time.perf_counter() - start)
    return best
