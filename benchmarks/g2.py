"""G2: a table four times the memory that a control group allows, against the same table in memory.

Values and moments of 5.6 million rows take 4 GiB; the process that trains them from disk may use 1 GiB, page cache,
torch and its own arrays included. Every row is on disk before the steps that are timed: both sides first take a step
with a gradient of zero on all rows, which changes none. Batches are T1's: items drawn by Zipf's law, and negatives from
the whole catalogue. Losses are compared bit for bit; the ratio is the share of the speed that is left.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import LONG, ROOT, Result, paired_ratio, take_turns
from benchmarks.limits import limited_memory
from benchmarks.peers import run_timed

LIMIT = 1 << 30
ROWS = 4 * LIMIT // (3 * 64 * 4)
ROW_MEMORY = 3 * LIMIT // 8
"""For rows; what else the process needs, and the page cache, is in the limit too."""
WARM, TIMED = 40, 80
BLOCK = 1 << 16


def run() -> Result:
    """By turns, each in a process of its own; the disk side in a group with the limit."""
    runs: dict[str, list[dict[str, list[float]]]] = {"mapped": [], "dense": []}

    def turn(table: str) -> float:
        runs[table].append(_child(table))
        return sum(runs[table][-1]["seconds"])

    disk, memory = take_turns(lambda _: turn("mapped"), lambda _: turn("dense"), rounds=5 if LONG else 3)
    share, interval = paired_ratio(disk, memory)
    same = all(d["losses"] == m["losses"] for d, m in zip(runs["mapped"], runs["dense"], strict=True))
    peak = max(one["peak"][0] for one in runs["mapped"])
    ok = same and share >= 0.5 and peak <= LIMIT
    rows = [
        (
            name, f"{1e3 * np.median([one['seconds'] for one in found]):.1f}",
            f"{1e3 * np.median([np.mean(one['seconds']) for one in found]):.1f}",
            f"{max(one['peak'][0] for one in found) / 2**20:,.0f}", f"{found[-1]['losses'][-1]:.6f}",
        )
        for name, found in runs.items()
    ]  # fmt: skip
    return Result(
        id="G2", ratio=share, interval=interval, gate="ok" if ok else "failed",
        headers=("table", "median step ms", "mean step ms", "peak MiB", "last loss"), rows=rows,
        figures=f"{share:.0%} of the speed in a quarter of the memory, peak {peak / 2**20:,.0f} MiB of "
        f"{LIMIT >> 20:,}; losses {'equal bit for bit' if same else 'DIFFER'}",
        notes=(f"{ROWS:,} rows x 64, lazy Adam: 4 GiB; {TIMED} steps timed after {WARM}; less than 1 is slower",),
    )  # fmt: skip


def _child(table: str) -> dict[str, list[float]]:
    """Run one side; the mapped one under the limit, the other measured the same way without one."""
    limit = LIMIT if table == "mapped" else 1 << 40
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder, limited_memory(limit) as group:
        lines = run_timed([sys.executable, "-m", "benchmarks.g2", table, folder], within=group)
        return {**json.loads(lines[-1]), "peak": [group.peak()]}


def _here(table: str, folder: str) -> None:
    """In the fresh process: write every row, then steps with the next batch announced, as the trainer does."""
    import time

    import torch

    from benchmarks.steps import DIM, Stream, leanrec_step

    options = {"memory": ROW_MEMORY, "folder": str(Path(folder))} if table == "mapped" else {}
    task, stream = leanrec_step(ROWS, table, options), Stream(ROWS)
    zeros = torch.zeros(BLOCK, DIM)
    for low in range(0, ROWS, BLOCK):
        rows = np.arange(low, min(low + BLOCK, ROWS), dtype=np.int32)
        task.table.apply(rows, zeros[: len(rows)], 0.0)
    seconds, losses = [], []
    batch = stream.batch(0)
    for number in range(WARM + TIMED):
        following = stream.batch(number + 1)
        task.prefetch(following)
        started = time.perf_counter()
        losses.append(task.step(batch))
        seconds.append(time.perf_counter() - started)
        batch = following
    print(json.dumps({"seconds": seconds[WARM:], "losses": losses}))


if __name__ == "__main__":
    _here(*sys.argv[1:])
