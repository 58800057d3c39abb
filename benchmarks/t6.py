"""T6: share of the GEMM floor in a training step: width 256, 4 layers, windows of 200, in float32 and in bfloat16.

Floor: the floating-point operations of the step's matrix products (linear layers and loss as torch counts them;
attention by hand, visible pairs only, forward and backward without recomputation) at the rate of a large product of the
same type, measured in the same rounds with the same threads. Everything else a step does, gradients, dropout, optimiser
and rows of the table included, is time above the floor. The ratio is the smaller share of the two types.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import THREADS, Result
from leanrec.core.jagged import Jagged
from leanrec.nn.blocks import Transformer
from leanrec.nn.tables import make_table
from leanrec.training.loader import Batch, SequenceLoader
from leanrec.training.objectives import make_objective
from leanrec.training.task import NextItem, StepOptions

DIM, LAYERS, HEADS, LENGTH, ROWS = 256, 4, 4, 200, 16
ITEMS, NEGATIVES = 100_000, 512
ROUNDS, STEPS, TARGET = 9, 5, 0.60
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def run() -> Result:
    """Shares of both types over rounds that measure rate and step by turns."""
    torch.set_num_threads(THREADS)
    batches = _batches()
    rows, shares = [], {}
    for precision, kind in TYPES.items():
        task = _task(precision)
        work = _operations(task, batches[0])
        found = []
        for _ in range(ROUNDS):
            rate = _rate(kind)
            seconds = _step_seconds(task, batches)
            found.append((work / rate / seconds, rate, seconds))
        shares[precision] = [share for share, _, _ in found]
        share, rate, seconds = np.median(np.asarray(found), axis=0)
        rows.append(
            (precision, f"{work / 1e9:.1f}", f"{rate / 1e9:.0f}", f"{1e3 * work / rate:.0f}", f"{1e3 * seconds:.0f}",
             f"{share:.3f}")
        )  # fmt: skip
    medians = {name: float(np.median(values)) for name, values in shares.items()}
    worst = min(medians, key=lambda name: medians[name])
    return Result(
        id="T6", ratio=medians[worst], interval=_interval(shares[worst]), gate="ok",
        headers=("products in", "GFLOP a step", "GFLOP/s", "floor ms", "step ms", "share"), rows=rows,
        figures=", ".join(f"{name} {share:.3f}" for name, share in medians.items()),
        notes=(f"target {TARGET}; {ROWS} x {LENGTH} predictions, {ROUNDS} rounds, best of {STEPS} steps each",),
    )  # fmt: skip


def _batches() -> list[Batch]:
    random = np.random.default_rng(0)
    sequences = Jagged.from_rows([random.integers(0, ITEMS, LENGTH + 1) for _ in range(4 * ROWS)])
    loader = SequenceLoader(
        sequences, max_length=LENGTH, batch_tokens=ROWS * LENGTH, num_items=ITEMS, negatives=NEGATIVES
    )
    return list(loader.epoch(0))


def _task(precision: str) -> NextItem:
    torch.manual_seed(0)
    net = Transformer(
        block="sasrec", dim=DIM, layers=LAYERS, heads=HEADS, hidden=4 * DIM, max_length=LENGTH, dropout=0.1
    )
    return NextItem(
        net, make_table("dense", ITEMS, DIM), make_objective("sampled-softmax", {}, ITEMS, NEGATIVES),
        StepOptions(lr=1e-3, precision=precision),
    )  # fmt: skip


def _operations(task: NextItem, batch: Batch) -> float:
    """Of a step's matrix products. Attention: 2 forward and 4 backward, over the visible half of all pairs."""
    counter = FlopCounterMode(display=False)
    with counter:
        task.step(batch)
    counted = sum(
        count for name, count in counter.get_flop_counts()["Global"].items() if "attention" not in str(name)
        and "bmm" not in str(name)
    )  # fmt: skip
    return counted + LAYERS * ROWS * 6 * 2 * DIM * LENGTH * (LENGTH + 1) / 2


def _rate(kind: torch.dtype, size: int = 2048) -> float:
    """Operations a second of a large product, the best of six."""
    a, b = torch.randn(size, size, dtype=kind), torch.randn(size, size, dtype=kind)
    out = torch.empty_like(a)
    return 2 * size**3 / min(_timed(lambda: torch.mm(a, b, out=out)) for _ in range(6))


def _step_seconds(task: NextItem, batches: list[Batch]) -> float:
    return min(_timed(lambda at=at: task.step(batches[at % len(batches)])) for at in range(STEPS))


def _timed(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def _interval(values: list[float], draws: int = 10_000) -> tuple[float, float]:
    picked = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(np.median(np.asarray(values)[picked], axis=1), [0.025, 0.975])
    return float(low), float(high)
