"""T1: a training step over ten million items, leanrec's touched rows against torch's Adam on the whole table.

128 sequences of 50 items drawn by Zipf's law (exponent 1.05), 256 shared negatives, a transformer of 2 layers of 64
dimensions: the same network, batches and loss on both sides. Both tables do not fit into memory together, so that each
round runs the sides one after the other in processes of their own; what is timed is the steps alone. Also at a million
items, against torch's default Adam and SparseAdam. RecTools is not among them: its own data preparation and one set of
negatives for every position make it another step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.harness import LONG, Result, paired_ratio, take_turns
from benchmarks.peers import run_timed

LARGE, SMALL, GATE_ITEMS, GATE_STEPS = 10_000_000, 1_000_000, 100_000, 60
PEERS = {"fused": "torch fused Adam", "default": "torch default Adam", "sparse": "torch SparseAdam"}
WINDOW = 10


def run() -> Result:
    """The ratio is that of the step over ten million items against fused Adam."""
    gap = _curve_gap(_child("ours", GATE_ITEMS, 0, GATE_STEPS), _child("fused", GATE_ITEMS, 0, GATE_STEPS))
    ours, peer = _turns("fused", LARGE, rounds=5)
    ratio, interval = paired_ratio(ours, peer)
    rows = [_row(LARGE, "fused", ours, peer)]
    rows += [_row(SMALL, name, *_turns(name, SMALL, rounds=5 if LONG else 3)) for name in PEERS]
    floor = _floor()
    return Result(
        id="T1", ratio=ratio, interval=interval, gate="ok" if gap <= 0.01 else "failed",
        headers=("items", "peer", "leanrec ms", "peer ms", "ratio"), rows=rows,
        figures=f"{1e3 * np.median(ours):.0f} ms against {1e3 * np.median(peer):.0f}; floor {1e3 * floor:.0f} ms; "
        f"at 1M: {', '.join(row[4] + ' ' + name for row, name in zip(rows[1:], PEERS, strict=True))}",
        notes=(
            f"loss curves over {GATE_STEPS} steps at {GATE_ITEMS:,} items differ by {gap:.2%} at most "
            f"(means of {WINDOW} steps)",
            f"floor {1e3 * floor:.1f} ms (matrix products and touched bytes at the measured rates): our step "
            f"takes {np.median(ours) / floor:.2f} times that",
        ),
    )  # fmt: skip


def _turns(peer: str, items: int, rounds: int) -> tuple[list[float], list[float]]:
    """Median seconds of a step in each round, ours and the peer's."""
    few = items == LARGE
    return take_turns(
        lambda _: float(np.median(_child("ours", items, 5, 20)["seconds"])),
        lambda _: float(np.median(_child(peer, items, 2 if few else 4, 5 if few else 12)["seconds"])),
        rounds,
    )


def _row(items: int, peer: str, ours: Sequence[float], theirs: Sequence[float]) -> tuple[str, ...]:
    ratio, (low, high) = paired_ratio(ours, theirs)
    return (
        f"{items:,}", PEERS[peer], f"{1e3 * np.median(ours):.1f}", f"{1e3 * np.median(theirs):.1f}",
        f"{ratio:.1f} [{low:.1f}, {high:.1f}]",
    )  # fmt: skip


def _curve_gap(ours: dict[str, list[float]], peer: dict[str, list[float]]) -> float:
    """The largest relative difference between the loss curves, smoothed."""
    smooth = [np.convolve(side["losses"], np.full(WINDOW, 1 / WINDOW), "valid") for side in (ours, peer)]
    return float(np.abs(smooth[0] / smooth[1] - 1).max())


def _child(side: str, items: int, warm: int, timed: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = json.loads(
        run_timed([sys.executable, "-m", "benchmarks.t1", side, str(items), str(warm), str(timed)])[-1]
    )
    return found


def _floor() -> float:
    return float(json.loads(run_timed([sys.executable, "-m", "benchmarks.t1", "floor", str(LARGE), "0", "0"])[-1]))


def _measure_floor(items: int) -> float:
    """Seconds of the step's matrix products and of the traffic of its rows, at this machine's rates."""
    import time

    import torch

    from benchmarks.steps import DIM, Stream, step_flops

    def best(work: object) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            work()  # type: ignore[operator]
            times.append(time.perf_counter() - started)
        return min(times)

    square, large = torch.randn(2048, 2048), torch.randn(1 << 26)
    target = torch.empty_like(large)
    flops = 2 * 2048**3 / best(lambda: square @ square)
    rate = 2 * large.nbytes / best(lambda: target.copy_(large))
    batch = Stream(items).batch(0)
    touched = len(np.unique(np.concatenate([batch.items_RL.ravel(), batch.targets_T, batch.negatives_n])))
    passes = 10  # value to leaf (2), gradient written and read (2), value, mean and square read and written (6)
    return float(step_flops() / flops + touched * DIM * 4 * passes / rate)


def _here(side: str, items: str, warm: str, timed: str) -> None:
    """In a process of its own: run steps and print their seconds and losses."""
    from benchmarks.steps import Stream, TorchStep, leanrec_step, time_steps

    if side == "floor":
        print(json.dumps(_measure_floor(int(items))))
        return
    task = leanrec_step(int(items)) if side == "ours" else TorchStep(int(items), side)
    if not int(warm) and isinstance(task, TorchStep):  # a comparison of curves starts from the same table
        task.table.weight.data.copy_(leanrec_step(int(items)).table.gather(None).detach())
    seconds, losses = time_steps(task, Stream(int(items)), warm=int(warm), timed=int(timed))
    print(json.dumps({"seconds": seconds, "losses": losses}))


if __name__ == "__main__":
    _here(*sys.argv[1:])
