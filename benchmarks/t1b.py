"""T1b: time until validation NDCG@10 of .020 on Amazon Beauty, `sasrec` against RecTools' SASRecModel.

One block of 64 dimensions and 256 negatives on both sides; RecTools' other settings are its own, ours stand in `OURS`.
The same leave-one-out sequences (ordered by `pos`), the same full ranking over all items but the user's own, all users
with a validation item, the same threads, each in a fresh process; the clock starts after preparation and includes
compilation (Numba's cache is empty) and validation. One round; LONG=1 takes three, and goes on to .040.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import LONG, THREADS, Result, bench_data, paired_ratio, take_turns
from benchmarks.peers import peer_python, run_timed
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare

HERE = Path(__file__).parent
OURS = {"layers": 1, "hidden": 64, "negatives": 256, "dropout": 0.1, "lr": 0.01, "batch_tokens": 512}
"""The peer's network and number of negatives; rate, dropout and batch for a quick start rather than the best end."""
TARGETS = (0.020, 0.040) if LONG else (0.020,)
LIMIT = 7200.0 if LONG else 900.0


def run() -> Result:
    """Both sides by turns; the ratio is the smallest over the targets."""
    with tempfile.TemporaryDirectory() as folder:
        data, sequences = _prepare(Path(folder))
        seconds: dict[str, list[list[float]]] = {"ours": [], "peer": []}

        def ours(number: int) -> float:
            seconds["ours"].append(_ours(data, number))
            return seconds["ours"][-1][0]

        def peer(number: int) -> float:
            seconds["peer"].append(_rectools(sequences, number))
            return seconds["peer"][-1][0]

        take_turns(ours, peer, rounds=3 if LONG else 1)
    return _result(seconds["ours"], seconds["peer"])


def _result(ours: list[list[float]], peer: list[list[float]]) -> Result:
    rows, ratios = [], []
    for at, target in enumerate(TARGETS):
        mine, theirs = [times[at] for times in ours], [times[at] for times in peer]
        ratio, interval = paired_ratio(mine, theirs)
        ratios.append((ratio, interval))
        rows.append((f"{target:.3f}", f"{np.median(mine):.1f}", f"{np.median(theirs):.1f}", f"{ratio:.1f}"))
    ratio, interval = min(ratios)
    reached = all(map(math.isfinite, (t for times in ours + peer for t in times)))
    return Result(
        id="T1b", ratio=ratio, interval=interval, gate="ok" if reached else "failed",
        headers=("validation NDCG@10", "leanrec sasrec s", "RecTools SASRec s", "ratio"), rows=rows,
        figures="; ".join(f"{row[0]}: {row[1]} s against RecTools {row[2]} s" for row in rows),
        notes=(f"{len(ours)} rounds; RecTools is charged {LIMIT:.0f} s where it did not reach the target",),
    )  # fmt: skip


def _prepare(folder: Path) -> tuple[Path, Path]:
    """The data set for leanrec (every user may tune here), and the same sequences as arrays for the peer."""
    data = prepare(
        bench_data("amazon-beauty-5core") / "interactions.parquet", order_by="pos", certify=0.0, out=folder / "data"
    )
    train, cases = data.train(), data.cases("valid")
    targets = np.full(len(train), -1, np.int32)
    targets[cases.users] = [row[0] for row in cases.targets]
    np.savez(folder / "sequences.npz", items=train.values, offsets=train.offsets, targets=targets)
    return folder / "data", folder / "sequences.npz"


def _ours(data: Path, seed: int) -> list[float]:
    with tempfile.TemporaryDirectory() as cache:
        lines = run_timed([sys.executable, "-m", "benchmarks.t1b", str(data), str(seed)], NUMBA_CACHE_DIR=cache)
    found: list[float] = json.loads(lines[-1])
    return found


def _rectools(sequences: Path, seed: int) -> list[float]:
    command = [peer_python("rectools"), HERE / "peers" / "rectools_sasrec.py", sequences, "--seed", seed]
    command += ["--threads", THREADS, "--limit", LIMIT, "--targets", *TARGETS]
    found = json.loads(run_timed([str(part) for part in command])[-1])["seconds"]
    return [LIMIT if seconds is None else seconds for seconds in found]


def _train_here(folder: str, seed: str) -> None:
    """In the fresh process: fit until the last target is reached, and print the seconds to each."""
    import time

    from leanrec.models import MODELS

    data = Dataset.load(folder)
    reached: dict[float, float] = {}

    def watch(_: int, score: float) -> None:
        for target in TARGETS:
            if score >= target:
                reached.setdefault(target, time.perf_counter() - start)
        if len(reached) == len(TARGETS):
            raise _Reached

    start = time.perf_counter()
    with contextlib.suppress(_Reached):
        MODELS["sasrec"](**OURS).fit(data, seed=int(seed), on_score=watch)
    print(json.dumps([reached.get(target, math.inf) for target in TARGETS]))


class _Reached(Exception):
    """Every target is reached: nothing more is to be measured."""


if __name__ == "__main__":
    _train_here(*sys.argv[1:])
