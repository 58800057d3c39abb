"""Models trained once on made-up events, which several benchmarks measure: a million items, and a hundred thousand.

`python -m benchmarks.trained NAME` trains one; `trained(NAME)` gives its folder, training it first where it is not
there. They lie under .cache/trained/, each by what it was made from, and a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.harness import ROOT
from leanrec.core.jagged import Jagged
from leanrec.data.cases import Cases
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.data.synthetic import generate
from leanrec.jobs.train import TrainJob, train

__all__ = ["RUNS", "Trained", "made", "run_of", "strangers", "trained", "world"]

CACHE = ROOT / ".cache" / "trained"
WORLDS: dict[str, dict[str, Any]] = {
    "1m": {"users": 80_000, "items": 1_300_000, "events": 4_000_000, "zipf": 0.6},
    "100k": {"users": 30_000, "items": 103_000, "events": 1_500_000, "zipf": 0.7},
}
"""Items that no event fell on are not in the catalogue: about 1.05 million and 100 thousand are left."""
_COMMON = {"max_length": 200, "batch_tokens": 4096, "lr": 0.004, "dropout": 0.1, "epochs": 1}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "1m-64": ("1m", "esasrec", {**_COMMON, "dim": 64, "layers": 2, "epochs": 4}),
    "1m-als-128": ("1m", "als", {"factors": 128, "iterations": 5}),
    "100k-64": ("100k", "esasrec", {**_COMMON, "dim": 64, "layers": 2}),
    "100k-128": ("100k", "esasrec", {**_COMMON, "dim": 128, "layers": 2, "epochs": 12, "patience": 2}),
    "100k-256": ("100k", "esasrec", {**_COMMON, "dim": 256, "layers": 4, "heads": 4}),
}
"""World, model and settings. Short: answers have to depend on the history, no more. `als` because a transformer over a
million items of 128 takes hours on two cores."""


@dataclass(frozen=True, slots=True)
class Trained:
    """run: a run folder, with bundle and histories. data: the prepared data set it was trained on."""

    run: Path
    data: Path

    def dataset(self) -> Dataset:
        """The data set."""
        return Dataset.load(self.data)


def world(name: str) -> Path:
    """The prepared data set of a world: leave-one-out, seen items excluded."""
    planted = WORLDS[name]
    folder = CACHE / f"{name}-{_digest(planted)}"
    if not (folder / "dataset.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        log = folder.with_suffix(".parquet")
        generate(log, **planted)
        prepare(log, split="leave-one-out", repeats=False, out=folder, name=f"synthetic-{name}")
        log.unlink()
    return folder


def strangers(name: str, times: int) -> Cases:
    """Users of a world who were not there when its data set was made, as many as `times` its users: their last item to
    find after the others, in rows of the data set (items that it does not know are left out).

    Events are drawn block by block from the seed, so a larger world goes on where the smaller one ends; a block that
    the smaller one cut short is passed over.
    """
    planted = WORLDS[name]
    known = Dataset.load(world(name))
    folder = CACHE / f"{name}-strangers-{_digest([planted, times])}"
    large = {**planted, **{key: planted[key] * (times + 3) for key in ("users", "events")}}
    if not (folder / "dataset.json").exists():
        log = folder.with_suffix(".parquet")
        generate(log, **large)
        first = 3 * planted["users"]
        pl.scan_parquet(log).filter(pl.col("user_id") >= first).collect().write_parquet(log)
        prepare(log, split="leave-one-out", repeats=False, out=folder, name=f"synthetic-{name}-strangers")
        log.unlink()
    new = Dataset.load(folder)
    row_of = known.items.rows(new.items.ids())
    cases = new.cases("test")

    def rows(found: Jagged) -> Jagged:
        moved = Jagged(row_of[found.values], found.offsets)
        return moved.where(moved.values >= 0)

    histories, targets = rows(cases.histories), rows(cases.targets)
    asked = np.flatnonzero((histories.lengths > 0) & (targets.lengths > 0))
    return Cases(cases.users[asked], histories.take(asked), targets.take(asked))


def run_of(name: str) -> Path:
    """The run folder of one of `RUNS`, trained or not."""
    place, _, settings = RUNS[name]
    return CACHE / f"{name}-{_digest([WORLDS[place], settings])}"


def made(name: str) -> bool:
    """Whether one of `RUNS` is trained, so that a timed run does not start training."""
    return (run_of(name) / "done").exists()


def trained(name: str) -> Trained:
    """One of `RUNS`, trained where it is not there yet."""
    place, model, settings = RUNS[name]
    data, run = world(place), run_of(name)
    if not made(name):
        resume = (run / "checkpoints" / "last.safetensors").exists()
        train(TrainJob(model=model, data=str(data), out=str(run), settings=settings, resume=resume, track=()))
        (run / "done").touch()
    return Trained(run, data)


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(wanted, trained(wanted).run.relative_to(ROOT), flush=True)
