"""T3: time to the validation NDCG@20 that RecBole has after two epochs, BPR-MF and LightGCN on Gowalla.

Both sides get the same training interactions (the published split, validation drawn from train), 64 dimensions, the
same threads, and are judged by the same users over all items but their own, each in a fresh process. RecBole is charged
for its training epochs alone, leanrec for everything from the call of `fit` until the validation that reaches the
score, that validation and those before it included. Where the singular vectors that training starts from are as good
already, it is that of the start (epoch 0), and the table says so. leanrec's compiled loops come from Numba's cache, as
in every run but the first on a machine; what the first one takes stands in the table. One round; LONG=1 takes three.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import LONG, THREADS, Result, bench_data, paired_ratio
from benchmarks.peers import peer_python, run_timed
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.data.split import TRAIN
from leanrec.models import MODELS
from leanrec.models.collaborative_fitting import judges

HERE = Path(__file__).parent
PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "bpr-mf": ("BPR", {"candidates": 1, "validate_every": 1}),
    "lightgcn": ("LightGCN", {"layers": 2, "candidates": 8, "validate_every": 1}),
}
"""RecBole's name, and our settings: layers as in RecBole; few candidates a pair, which is quickest at first."""
EPOCHS = 2
ROUNDS = 3 if LONG else 1


def run() -> Result:
    """Each round: the peer first, because its score is what ours has to reach."""
    with tempfile.TemporaryDirectory() as folder:
        data, arrays = _prepare(Path(folder))
        rows, ratios, gate = [], [], "ok"
        for name, (peer, _) in PAIRS.items():
            theirs, ours, cold, goals, ends = [], [], math.nan, [], []
            for number in range(ROUNDS):
                seconds, goal = _recbole(peer, arrays, number)
                theirs.append(seconds)
                goals.append(goal)
                if not number:
                    with tempfile.TemporaryDirectory() as cache:
                        cold = _ours(name, data, number, goal, cache)[0]
                    _ours(name, data, number, 0.0)
                found, reached, epoch = _ours(name, data, number, goal)
                ours.append(found)
                ends.append(f"{reached:.4f} ({epoch:.0f})")
                gate = gate if reached >= goal else "failed"
            ratio, interval = paired_ratio(ours, theirs)
            ratios.append((ratio, interval))
            rows.append(
                (name, f"{np.median(goals):.4f}", ", ".join(ends), f"{np.median(ours):.1f}", f"{cold:.1f}",
                 f"{np.median(theirs):.1f}", f"{ratio:.1f}")
            )  # fmt: skip
    ratio, interval = min(ratios)
    return Result(
        id="T3", ratio=ratio, interval=interval, gate=gate,
        headers=("model", "validation NDCG@20", "leanrec's (epoch)", "leanrec s", "first run s", "RecBole s", "ratio"),
        rows=rows,
        figures="; ".join(
            f"{row[0]}: {row[3]} s (first run {row[4]} s) with {row[2]} against RecBole {row[5]} s with {row[1]}"
            for row in rows
        ),
        notes=(f"{ROUNDS} round(s); RecBole's {EPOCHS} epochs without validation, leanrec's time with it",),
    )  # fmt: skip


def _prepare(folder: Path) -> tuple[Path, Path]:
    """The data set for leanrec (every user may tune here), and training pairs and judges as arrays for the peer."""
    log = bench_data("gowalla-lightgcn") / "interactions.parquet"
    data = prepare(log, split="column:split", certify=0.0, out=folder / "data")
    train, cases = data.train(), judges(data)
    assert not data.protocol.repeats and (data.interactions.split == TRAIN).sum() == len(train.values)
    np.savez(
        folder / "pairs.npz", items=train.values, offsets=train.offsets, users=cases.users,
        targets=cases.targets.values, target_offsets=cases.targets.offsets,
    )  # fmt: skip
    return folder / "data", folder / "pairs.npz"


def _recbole(model: str, arrays: Path, seed: int) -> tuple[float, float]:
    command = [peer_python("recbole"), HERE / "peers" / "recbole_pairs.py", arrays, "--model", model]
    command += ["--epochs", EPOCHS, "--seed", seed, "--threads", THREADS]
    found = json.loads(run_timed([str(part) for part in command])[-1])
    return found["seconds"][-1], found["ndcg"][-1]


def _ours(name: str, data: Path, seed: int, goal: float, cache: str | None = None) -> tuple[float, float, float]:
    """(seconds, score, epoch) when the goal is reached, or at the end. cache: Numba's folder, if not its own."""
    command = [sys.executable, "-m", "benchmarks.t3", name, str(data), str(seed), str(goal)]
    lines = run_timed(command) if cache is None else run_timed(command, NUMBA_CACHE_DIR=cache)
    seconds, reached, epoch = json.loads(lines[-1])
    return seconds, reached, epoch


class _Reached(Exception):
    """The goal is reached: nothing more is to be measured."""


def _train_here(name: str, folder: str, seed: str, goal: str) -> None:
    """In the fresh process: fit until the goal is reached, and print seconds, score and epoch."""
    data, model = Dataset.load(folder), MODELS[name](**PAIRS[name][1])
    found = [math.inf, 0.0, 0.0]

    def watch(epoch: int, score: float) -> None:
        found[:] = [time.perf_counter() - start, score, epoch]
        if score >= float(goal):
            raise _Reached

    start = time.perf_counter()
    with contextlib.suppress(_Reached):
        model.fit(data, seed=int(seed), metric="ndcg@20", on_score=watch)
    print(json.dumps(found))


if __name__ == "__main__":
    _train_here(*sys.argv[1:])
