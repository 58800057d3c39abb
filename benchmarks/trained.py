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

from benchmarks.harness import ROOT
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.data.synthetic import generate
from leanrec.jobs.train import TrainJob, train

__all__ = ["RUNS", "Trained", "trained", "world"]

CACHE = ROOT / ".cache" / "trained"
WORLDS: dict[str, dict[str, Any]] = {
    "1m": {"users": 80_000, "items": 1_300_000, "events": 4_000_000, "zipf": 0.6},
    "100k": {"users": 30_000, "items": 103_000, "events": 1_500_000, "zipf": 0.7},
}
"""Items that no event fell on are not in the catalogue: about 1.05 million and 100 thousand are left."""
_COMMON = {"max_length": 200, "batch_tokens": 4096, "lr": 0.004, "dropout": 0.1}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "1m-64": ("1m", {"dim": 64, "layers": 2, "epochs": 1}),
    "1m-128": ("1m", {"dim": 128, "layers": 2, "epochs": 1}),
    "100k-64": ("100k", {"dim": 64, "layers": 2, "epochs": 1}),
    "100k-128": ("100k", {"dim": 128, "layers": 2, "epochs": 1}),
    "100k-256": ("100k", {"dim": 256, "layers": 4, "heads": 4, "epochs": 1}),
}
"""World, and settings of `esasrec` beside the common ones. Short: answers have to depend on the history, no more."""


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


def trained(name: str) -> Trained:
    """One of `RUNS`, trained where it is not there yet."""
    place, settings = RUNS[name]
    data = world(place)
    settings = {**_COMMON, **settings}
    run = CACHE / f"{name}-{_digest([WORLDS[place], settings])}"
    if not (run / "done").exists():
        resume = (run / "checkpoints" / "last.safetensors").exists()
        job = TrainJob(model="esasrec", data=str(data), out=str(run), settings=settings, resume=resume, track=())
        train(job)
        (run / "done").touch()
    return Trained(run, data)


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(wanted, trained(wanted).run.relative_to(ROOT), flush=True)
