"""G1: a training step against the size of the catalogue, ten thousand items to ten million; less is better, 1 is flat.

T1's batches and network. Every round runs every size in a process of its own, the table in memory; at ten million also
the one on disk, with 1 GiB of memory for rows (those never trained are not on disk yet). A larger catalogue means more
distinct rows in a Zipf batch, and that they are less often in a cache: both are in the table. The loss grows with the
logarithm of the catalogue, as it must.
"""

from __future__ import annotations

import json
import sys
import tempfile

import numpy as np

from benchmarks.harness import LONG, ROOT, Result, paired_ratio
from benchmarks.peers import run_timed

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
RUNS = [*((size, "dense") for size in SIZES), (SIZES[-1], "mapped")]
FLAT = 1.3


def run() -> Result:
    """The ratio is the step at ten million over that at ten thousand, both in memory."""
    found: dict[tuple[int, str], list[dict[str, float]]] = {one: [] for one in RUNS}
    for _ in range(5 if LONG else 3):
        for one in RUNS:
            found[one].append(_child(*one))
    step = {one: [result["step"] for result in results] for one, results in found.items()}
    ratio, interval = paired_ratio(step[RUNS[0]], step[SIZES[-1], "dense"])
    disk, _ = paired_ratio(step[RUNS[0]], step[SIZES[-1], "mapped"])
    rows = [
        (f"{one[0]:,}", one[1], *(f"{np.median([r[k] for r in results]):{form}}" for k, form in _COLUMNS.items()))
        for one, results in found.items()
    ]
    return Result(
        id="G1", ratio=ratio, interval=interval, gate="ok" if ratio <= FLAT else "failed",
        headers=("items", "table", "step ms", "of it the table ms", "distinct rows", "loss"), rows=rows,
        figures=f"10k to 10M items: {ratio:.2f} times the step in memory, {disk:.2f} from disk (less is better)",
        notes=(f"{len(step[RUNS[0]])} rounds; flat is at most {FLAT}; what grows is distinct rows and cache misses",),
    )  # fmt: skip


_COLUMNS = {"step": ".1f", "table": ".2f", "distinct": ",.0f", "loss": ".3f"}


def _child(items: int, table: str) -> dict[str, float]:
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        lines = run_timed([sys.executable, "-m", "benchmarks.g1", str(items), table, folder])
    result: dict[str, float] = json.loads(lines[-1])
    return result


def _here(items: str, table: str, folder: str) -> None:
    """In the fresh process: steps, then the calls of the table alone."""
    import time

    import torch

    from benchmarks.steps import DIM, Stream, leanrec_step, time_steps

    options = {"memory": 1 << 30, "folder": folder} if table == "mapped" else {}
    task, stream = leanrec_step(int(items), table, options), Stream(int(items))
    seconds, losses = time_steps(task, stream, warm=10, timed=30)
    alone, distinct = [], []
    for number in range(50, 70):
        batch = stream.batch(number)
        flat = np.concatenate([batch.items_RL.ravel(), batch.targets_T, batch.negatives_n])
        started = time.perf_counter()
        rows = task.table.distinct(flat)[0]
        task.table.gather(rows)
        gathered = time.perf_counter() - started
        grad = torch.randn(len(rows), DIM)
        started = time.perf_counter()
        task.table.apply(rows, grad, 1e-3)
        alone.append(gathered + time.perf_counter() - started)
        distinct.append(len(rows))
    medians = {"step": seconds, "table": alone}
    figures = {name: 1e3 * float(np.median(values)) for name, values in medians.items()}
    print(json.dumps({**figures, "distinct": float(np.mean(distinct)), "loss": losses[-1]}))


if __name__ == "__main__":
    _here(*sys.argv[1:])
