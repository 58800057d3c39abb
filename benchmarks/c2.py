"""C2: latency of the `esasrec` encoder at batch 1 and 200 tokens, (d 64, 2 layers) and (d 256, 4), in every way.

Models of benchmarks.trained, real histories of 200 events. The peer is the same network in torch, eager, float32, with
torch's own attention, in inference mode, on one thread or two, whichever is quicker. Ours is the way that was fastest
in a look beforehand and answers with at least .98 of the ten best items of the float32 engine, which is the gate. Five
rounds, A B A B ..., each side in a process of its own: threads that wait for work in one library slow down another's in
the same process. The other ways stand in the table. The floor is what the products that a query needs take at the speed
of a large one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any, Self

import numpy as np

from benchmarks.harness import ROOT, THREADS, Result, paired_ratio, take_turns
from benchmarks.peers import run_timed
from benchmarks.trained import trained
from leanrec.core.jagged import Jagged
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.ways import WAYS, drive
from leanrec.runtime.ways.choose import choose, overlap

CASES = {"d 64, 2 layers": "100k-64", "d 256, 4 layers": "100k-256"}
TOKENS, ROUNDS, LEAST = 200, 5, 0.98
_ANSWERS, _WARM = 100, 20
_COUNTS = sorted({1, THREADS})
TRIED = (
    "plain", "packed", "fixed", "onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8", "openvino-bf16",
    "torch-compile",
)  # fmt: skip


def run() -> Result:
    """Each model in fresh processes."""
    found = {case: _taken(name) for case, name in CASES.items()}
    rows, ratios, gate, notes = [], [], "ok", []
    for case, one in found.items():
        ratio, interval = paired_ratio(one["ours"], one["peer"])
        ratios.append((ratio, interval))
        gate = gate if one["overlap"] >= LEAST else "failed"
        for name, threads, seconds, same, problem in one["table"]:
            rows.append((case, name, str(threads), problem or f"{seconds * 1e3:.2f}", "" if problem else f"{same:.4f}"))
        rows.append((case, "torch, eager (peer)", str(one["peer_threads"]), f"{np.median(one['peer']) * 1e3:.2f}", ""))
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


def _taken(name: str) -> dict[str, Any]:
    """A look at all ways, then the best and the peer by turns."""
    found: dict[str, Any] = json.loads(run_timed([sys.executable, "-m", "benchmarks.c2", name])[-1])
    with ExitStack() as stack:
        peers = [stack.enter_context(_Side(name, "torch", threads)) for threads in _COUNTS]
        peer = min(peers, key=lambda side: side.seconds())
        ours = stack.enter_context(_Side(name, found["best"], found["threads"]))
        turns = take_turns(lambda _: ours.seconds(), lambda _: peer.seconds(), ROUNDS)
    return {**found, "ours": turns[0], "peer": turns[1], "peer_threads": peer.threads}


class _Side:
    """One way to run a model's encoder, in a process that measures when it is asked to and sleeps until then."""

    def __init__(self, name: str, way: str, threads: int) -> None:
        self.threads = threads
        command = [sys.executable, "-m", "benchmarks.c2", name, way, str(threads)]
        self._child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()

    def seconds(self) -> float:
        """The median of single answers."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        print("go", file=self._child.stdin, flush=True)
        return float(self._child.stdout.readline())


def _answer(name: str, way: str, threads: int) -> None:
    """What the process of a side does."""
    engine, histories = _asked(name)
    driven = drive(engine, {"name": way, "threads": threads}) if way != "torch" else WAYS["torch"](engine, threads)
    for _ in sys.stdin:
        took = []
        for place in range(_ANSWERS + _WARM):
            history = histories.slice(place % len(histories), place % len(histories) + 1)
            started = time.perf_counter()
            driven.encode(history)
            took.append(time.perf_counter() - started)
        print(float(np.median(took[_WARM:])), flush=True)


def _asked(name: str) -> tuple[Any, Jagged]:
    """The encoder, and histories of so many events."""
    got = trained(name)
    source = Recommender.load(got.run).source
    assert isinstance(source, EmbeddingSource)
    histories = got.dataset().cases("test", users="all").histories
    enough = histories.take(np.flatnonzero(histories.lengths >= TOKENS)[:100])
    if len(enough) < 50:  # joined from several users where few have so many events
        flat = histories.values[: 100 * TOKENS]
        enough = Jagged.from_lengths(flat, np.full(len(flat) // TOKENS, TOKENS))
    return source.engine, enough.last(TOKENS)


def _look(name: str) -> dict[str, object]:
    """In a fresh process: every way, and which is the best of them."""
    engine, enough = _asked(name)
    one = enough.take(np.array([0]))
    choice = choose(engine, {"one": one}, ways=TRIED, threads=_COUNTS, judged=enough, repeats=30)
    right, ours = engine.encode(enough), choice.engine.encode(enough)
    rate = _product_rate()
    flops = _flops(engine.config(), TOKENS)
    table = [(m.name, m.threads, m.seconds.get("one", 0.0), m.overlap, m.problem[:60]) for m in choice.table]
    return {
        "best": choice.best.name, "threads": choice.best.threads, "overlap": overlap(engine.items_ND, ours, right),
        "table": table, "floor": flops / rate, "flops": flops,
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
    if len(sys.argv) == 2:
        print(json.dumps(_look(sys.argv[1])))
    else:
        _answer(sys.argv[1], sys.argv[2], int(sys.argv[3]))
