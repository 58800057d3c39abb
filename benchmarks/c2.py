"""C2: latency of the `esasrec` encoder at batch 1 and 200 tokens, (d 64, 2 layers) and (d 256, 4), in every way.

Models of benchmarks.trained, real histories of 200 events. The peer is the same network in torch, eager, float32, with
torch's own attention, in inference mode, on as many threads. Ours is the way that was fastest in a look beforehand and
answers with at least .98 of the ten best items of the float32 engine, which is the gate. Five rounds, A B A B ...; the
other ways stand in the table. The floor is what the products that a query needs take at the speed of a large one.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from benchmarks.harness import THREADS, Result, paired_ratio, take_turns
from benchmarks.peers import run_timed

CASES = {"d 64, 2 layers": "100k-64", "d 256, 4 layers": "100k-256"}
TOKENS, ROUNDS, LEAST = 200, 5, 0.98
WAYS = (
    "plain", "packed", "fixed", "onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8", "openvino-bf16",
    "torch-compile",
)  # fmt: skip


def run() -> Result:
    """Each model in a fresh process."""
    found = {
        case: json.loads(run_timed([sys.executable, "-m", "benchmarks.c2", name])[-1]) for case, name in CASES.items()
    }
    rows, ratios, gate, notes = [], [], "ok", []
    for case, one in found.items():
        ratio, interval = paired_ratio(one["ours"], one["peer"])
        ratios.append((ratio, interval))
        gate = gate if one["overlap"] >= LEAST else "failed"
        for name, threads, seconds, same, problem in one["table"]:
            rows.append((case, name, str(threads), problem or f"{seconds * 1e3:.2f}", "" if problem else f"{same:.4f}"))
        rows.append((case, "torch, eager (peer)", str(THREADS), f"{np.median(one['peer']) * 1e3:.2f}", ""))
        rows.append(
            (
                case,
                f"{one['best']} (ours)",
                str(one["threads"]),
                f"{np.median(one['ours']) * 1e3:.2f}",
                f"{one['overlap']:.4f}",
            )
        )
        notes.append(
            f"{case}: {ratio:.2f} times; floor {one['floor'] * 1e3:.2f} ms ({one['flops'] / 1e9:.3f} GFLOP at "
            f"{one['flops'] / one['floor'] / 1e9:.0f} GFLOP/s)"
        )
    ratio, interval = min(ratios)
    return Result(
        id="C2", ratio=ratio, interval=interval, gate=gate,
        headers=("model", "way", "threads", "ms", "overlap of the ten best"), rows=rows,
        figures=", ".join(
            f"{case}: {one['best']} {_ms(one['ours'])} ms against {_ms(one['peer'])}" for case, one in found.items()
        ),
        notes=notes,
    )  # fmt: skip


def _ms(seconds: list[float]) -> str:
    return f"{np.median(seconds) * 1e3:.2f}"


def _measure(name: str) -> dict[str, object]:
    """In the fresh process."""
    from benchmarks.trained import trained
    from leanrec.core.jagged import Jagged
    from leanrec.runtime.recommender import Recommender
    from leanrec.runtime.sources.embedding import EmbeddingSource
    from leanrec.runtime.ways import WAYS as ALL
    from leanrec.runtime.ways.choose import choose, overlap

    got = trained(name)
    source = Recommender.load(got.run).source
    assert isinstance(source, EmbeddingSource)
    histories = got.dataset().cases("test", users="all").histories
    engine = source.engine
    enough = (
        histories.take(np.flatnonzero(histories.lengths >= TOKENS)[:100])
        if (histories.lengths >= TOKENS).any()
        else None
    )
    if enough is None or len(enough) < 50:  # joined from several users where few have so many events
        flat = histories.values[: 100 * TOKENS]
        enough = Jagged.from_lengths(flat, np.full(len(flat) // TOKENS, TOKENS))
    enough = enough.last(TOKENS)
    one = enough.take(np.array([0]))
    counts = sorted({1, THREADS})
    choice = choose(engine, {"one": one}, ways=WAYS, threads=counts, judged=enough, repeats=30)
    peer = ALL["torch"](engine, THREADS)
    driven = choice.engine
    right, ours = engine.encode(enough), driven.encode(enough)

    def timed(encode: object) -> float:
        assert callable(encode)
        took = []
        for place in range(60):
            history = enough.slice(place % len(enough), place % len(enough) + 1)
            started = time.perf_counter()
            encode(history)
            took.append(time.perf_counter() - started)
        return float(np.median(took))

    turns = take_turns(lambda _: timed(driven.encode), lambda _: timed(peer.encode), ROUNDS)
    rate = _product_rate()
    flops = _flops(engine.config(), TOKENS)
    table = [(m.name, m.threads, m.seconds.get("one", 0.0), m.overlap, m.problem[:60]) for m in choice.table]
    return {
        "ours": turns[0], "peer": turns[1], "best": choice.best.name, "threads": choice.best.threads,
        "overlap": overlap(engine.items_ND, ours, right), "table": table, "floor": flops / rate, "flops": flops,
    }  # fmt: skip


def _flops(config: dict[str, object], tokens: int) -> float:
    """Of what a query needs: all layers but the last for every token, keys and values of the last, one token of it."""
    dim, layers = int(config["dim"]), int(config["layers"])  # type: ignore[call-overload]
    dense = 18 * dim * dim
    attention = tokens * dim  # causal: half of 2 T D
    return 2.0 * (
        (layers - 1) * tokens * (dense + attention) + tokens * 2 * dim * dim + 16 * dim * dim + 2 * tokens * dim
    )


def _product_rate() -> float:
    """FLOP/s of a large matrix product with all threads."""
    a = np.random.default_rng(0).standard_normal((2048, 2048), dtype=np.float32)
    best = np.inf
    for _ in range(8):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / float(best)


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1])))
