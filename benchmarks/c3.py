"""C3: answers a second of the whole Recommender in process: `esasrec` d 128, 2 layers, 100k items, Zipf histories.

Histories are the newest events of real users, as many as a power law with a mean of 20 and a most of 50 says; seen
items are left out of the answers of ten. The peer is the same network in torch, eager, float32: batches of histories of
about one length, a matrix product with the table, seen items masked, topk, at the batch size that is best for it. Ours
are two threads that share the batches, at the index, way and batch size that were best in a look beforehand. Five
rounds, A B A B ...; the gate is the certified loss of NDCG@10 against the float32 engine and the exact index: 1 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from benchmarks.harness import THREADS, Result, paired_ratio, take_turns
from benchmarks.trained import trained
from leanrec.compression.quality import judge
from leanrec.core.jagged import Jagged
from leanrec.index import INDEXES
from leanrec.kernels.blas import limit_blas
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.ways import WAYS, drive

QUERIES, PEER_QUERIES, K, ROUNDS, MOST, MEAN = 4096, 1024, 10, 5, 50, 20
LOSS = 0.01
WAYS_TRIED, BATCHES = ("fixed", "packed", "onnxruntime"), (64, 256, 1024)
INDEXES_TRIED = ("exact", "certified-int8", "certified-int4")


def run() -> Result:
    """Look for the best settings of both sides, then take turns."""
    got = trained("100k-128")
    model, data = Recommender.load(got.run), got.dataset()
    asked = histories(data.cases("test", users="tune").histories)
    limit_blas(1)
    pool = ThreadPoolExecutor(THREADS, initializer=numba.set_num_threads, initargs=(1,))
    rows: list[tuple[str, ...]] = []
    best: tuple[float, Recommender, int, str] | None = None
    for index in INDEXES_TRIED:
        for way in WAYS_TRIED if index != "certified-int4" else WAYS_TRIED[:1]:
            lean = variant(model, index, way)
            for batch in BATCHES:
                some = asked.slice(0, 1024)
                answer(lean, some, batch, pool)
                rate = len(some) / seconds(lambda m=lean, b=batch, h=some: answer(m, h, b, pool))  # type: ignore[misc]
                rows.append((f"{way}, {index}", str(batch), f"{rate:,.0f}"))
                if best is None or rate > best[0]:
                    best = rate, lean, batch, f"{way}, {index}, {batch} at a time"
    assert best is not None
    _, lean, batch, what = best
    peer = Peer(model)
    size = min(BATCHES, key=lambda b: seconds(lambda: peer.answer(asked.slice(0, 512), b)))
    turns = take_turns(
        lambda _: seconds(lambda: answer(lean, asked, batch, pool)) / len(asked),
        lambda _: seconds(lambda: peer.answer(asked.slice(0, PEER_QUERIES), size)) / PEER_QUERIES,
        ROUNDS,
    )
    ratio, interval = paired_ratio(*turns)
    certificate = judge(variant(model, "exact", "plain"), lean, data, metric=f"ndcg@{K}", alpha=0.05).certificate
    gate = "ok" if certificate.holds(LOSS) else "failed" if certificate.broken(LOSS) else "inconclusive"
    ours, theirs = (1 / float(np.median(side)) for side in turns)
    rows += [(f"ours: {what}", "", f"{ours:,.0f}"), ("torch, eager (peer)", str(size), f"{theirs:,.0f}")]
    return Result(
        id="C3", ratio=ratio, interval=interval, gate=gate, headers=("side", "batch", "answers/s"), rows=rows,
        figures=f"{ours:,.0f} answers/s ({what}) against {theirs:,.0f}", notes=(certificate.verdict(LOSS),),
    )  # fmt: skip


def histories(known: Jagged) -> Jagged:
    """The newest events of users, as many as a power law over 1 to MOST with that mean says."""
    sizes = np.arange(1, MOST + 1)
    low, high = 0.0, 2.0
    for _ in range(50):
        power = (low + high) / 2
        share = sizes**-power / (sizes**-power).sum()
        low, high = (power, high) if share @ sizes > MEAN else (low, power)
    random = np.random.default_rng(0)
    wanted = random.choice(sizes, QUERIES, p=share)
    users = random.permutation(len(known))
    by_length = users[np.argsort(known.lengths[users], kind="stable")]
    lengths = known.lengths[by_length]
    picked = []
    for length in wanted:
        first = min(int(np.searchsorted(lengths, length)), len(by_length) - 1)
        picked.append(known[int(by_length[random.integers(first, len(by_length))])][-length:])
    return Jagged.from_rows(picked)


def variant(model: Recommender, index: str, way: str) -> Recommender:
    """The same model with another index and another way to run its encoder."""
    source = model.source
    assert isinstance(source, EmbeddingSource)
    built = INDEXES[index].build(source.index.items_ND)
    engine = drive(source.engine, {"name": way, "threads": 1})
    return Recommender(EmbeddingSource(source.name, engine, built), model.items, repeats=model.repeats)


def answer(model: Recommender, asked: Jagged, batch: int, pool: ThreadPoolExecutor) -> None:
    """All of them, in batches that the threads share."""
    starts = range(0, len(asked), batch)
    for _ in pool.map(lambda at: model.rank(asked.slice(at, at + batch), K, include_seen=False), starts):
        pass


class Peer:
    """torch: encoder, product, mask, topk."""

    def __init__(self, model: Recommender) -> None:
        import torch

        source = model.source
        assert isinstance(source, EmbeddingSource)
        self._torch, self._encoder = torch, WAYS["torch"](source.engine, THREADS)  # type: ignore[arg-type]
        self._items: Any = torch.tensor(np.asarray(source.index.items_ND)).T.contiguous()

    def answer(self, asked: Jagged, batch: int) -> None:
        """All of them, in batches."""
        torch = self._torch
        with torch.inference_mode():
            for at in range(0, len(asked), batch):
                some = asked.slice(at, at + batch)
                scores = torch.from_numpy(self._encoder.encode(some)) @ self._items
                scores[torch.from_numpy(some.row_of()), torch.from_numpy(some.values.astype(np.int64))] = -torch.inf
                torch.topk(scores, K)


def seconds(call: Callable[[], None]) -> float:
    """Of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
