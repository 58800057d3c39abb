"""D1: what a second worker buys: a training step of two workers with one thread each against one with one thread.

T1's network and batch (128 sequences x 50 tokens, d 64, 2 layers, 256 shared negatives) over a table of a million rows,
whose ids follow Zipf's law; the same global batches for both. Once with the table replicated and once sharded. The
figure is the speed-up as a share of what the machine itself gives a second process: two processes that multiply
matrices at the same time, against one, measured in the same rounds. Gate: every step's loss within 1 %.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import LONG, ROOT, Result

ITEMS, DIM, SEQUENCES, LENGTH, NEGATIVES = 1_000_000, 64, 128, 50, 256
ROUNDS, WARM, STEPS = (7 if LONG else 5), 5, 30
PLACEMENTS = ("replicated", "sharded")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)  # fmt: skip


def run() -> Result:
    """Rounds of: a product alone, two at once, one worker, two with each placement of the table."""
    shares: dict[str, list[float]] = {placement: [] for placement in PLACEMENTS}
    speedups: dict[str, list[float]] = {placement: [] for placement in PLACEMENTS}
    scaling, alone_ms, equal = [], [], True
    for _ in range(ROUNDS):
        one, two = _products(1), _products(2)
        scaling.append(2 * one / two)
        seconds, losses = _steps(1, "replicated")
        alone_ms.append(1e3 * seconds)
        for placement in PLACEMENTS:
            both, found = _steps(2, placement)
            equal &= bool(np.allclose(found, losses, rtol=0.01))
            speedups[placement].append(seconds / both)
            shares[placement].append(seconds / both / scaling[-1])
    rows, found_shares = [], []
    for placement in PLACEMENTS:
        low, high = _interval(shares[placement])
        found_shares.append((float(np.median(shares[placement])), (low, high)))
        rows.append(
            (
                placement, f"{np.median(alone_ms):.1f}", f"{np.median(speedups[placement]):.2f}",
                f"{np.median(scaling):.2f}", f"{found_shares[-1][0]:.3f}",
            )
        )  # fmt: skip
    share, interval = min(found_shares)
    return Result(
        id="D1", ratio=share, interval=interval, gate="ok" if equal else "failed",
        headers=("table", "1 worker, ms a step", "speed-up of 2", "of 2 products", "share"), rows=rows,
        figures="; ".join(f"{row[0]}: {row[2]}x of {row[3]}x" for row in rows),
        notes=(f"{ROUNDS} rounds of {STEPS} steps; every process has one thread",),
    )  # fmt: skip


def _interval(shares: list[float]) -> tuple[float, float]:
    picked = np.random.default_rng(0).integers(0, len(shares), (10_000, len(shares)))
    low, high = np.quantile(np.median(np.asarray(shares)[picked], axis=1), [0.025, 0.975])
    return float(low), float(high)


def _products(processes: int) -> float:
    """Seconds of a product, the slowest of so many processes at once."""
    start = time.time() + 4.0
    command = [sys.executable, "-m", "benchmarks.d1", "product", str(start)]
    running = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return max(float(process.communicate()[0]) for process in running)


def _product(start: str) -> None:
    """Of the sizes that the network's layers have, from the agreed moment on, for two seconds."""
    import torch

    x, w = torch.randn(SEQUENCES * LENGTH // 2, 4 * DIM), torch.randn(4 * DIM, 4 * DIM)
    for _ in range(20):
        x @ w
    time.sleep(max(0.0, float(start) - time.time()))
    times, end = [], time.perf_counter() + 2.0
    while time.perf_counter() < end:
        before = time.perf_counter()
        for _ in range(10):
            x @ w
        times.append(time.perf_counter() - before)
    print(np.mean(times))


def _steps(workers: int, placement: str) -> tuple[float, list[float]]:
    """Median seconds of a step, and the loss of each."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        environment = {**os.environ, **ONE_THREAD, "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1"}
        arguments = ["-m", "benchmarks.d1", "steps", placement, str(out)]
        group = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}", *arguments]
        command = [sys.executable, *(group if workers > 1 else arguments)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)
        seconds, losses = json.loads(out.read_text())
    return seconds, losses


def _train(placement: str, out: str) -> None:
    """In a worker: steps over made-up sequences, timed between barriers of the loss."""
    import torch
    import torch.distributed as dist

    from leanrec.core.allocator import freed_memory_kept
    from leanrec.core.jagged import Jagged
    from leanrec.nn.blocks import Transformer
    from leanrec.nn.tables import make_table
    from leanrec.training.loader import SequenceLoader
    from leanrec.training.objectives import make_objective
    from leanrec.training.task import NextItem, StepOptions
    from leanrec.training.workers import WORKERS, WorkersConfig

    together = "RANK" in os.environ
    if together:
        dist.init_process_group("gloo")
    torch.set_num_threads(1)
    random, users = np.random.default_rng(0), SEQUENCES * (WARM + STEPS + 2)
    values = (random.zipf(1.05, users * (LENGTH + 1)) % ITEMS).astype(np.int32)
    offsets = np.arange(0, len(values) + 1, LENGTH + 1, dtype=np.int64)
    loader = SequenceLoader(
        Jagged(values, offsets), max_length=LENGTH, batch_tokens=SEQUENCES * LENGTH, num_items=ITEMS,
        negatives=NEGATIVES,
    )  # fmt: skip
    torch.manual_seed(0)
    net = Transformer(
        block="sasrec", dim=DIM, layers=2, heads=2, hidden=4 * DIM, max_length=LENGTH, dropout=0.0, positions="learned"
    )
    workers = WORKERS["group" if together else "solo"](WorkersConfig(table_placement=placement))
    table = workers.table(ITEMS, lambda rows: make_table("dense", rows, DIM))
    objective = make_objective("sampled-softmax", {}, ITEMS, NEGATIVES)
    task = NextItem(net, table, objective, StepOptions(lr=1e-3), workers)
    losses, times = [], []
    with freed_memory_kept():  # as the trainer has it
        for batch in loader.epoch(0):
            before = time.perf_counter()
            losses.append(task.step(batch))
            times.append(time.perf_counter() - before)
            if len(losses) == WARM + STEPS:
                break
    if workers.rank == 0:
        Path(out).write_text(json.dumps([float(np.median(times[WARM:])), losses]))
    if together:
        dist.destroy_process_group()


if __name__ == "__main__":
    {"product": _product, "steps": _train}[sys.argv[1]](*sys.argv[2:])
