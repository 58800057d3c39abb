"""Checkpoints: one safetensors file with the run's progress in its metadata, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.files import atomic_file
from leanrec.core.tensors import map_tensors, write_tensors

__all__ = ["Progress", "load_checkpoint", "save_checkpoint", "stored_progress"]


class Progress(msgspec.Struct, kw_only=True):
    """Where a run stands.

    A stage is one pass of training: `search` with validation, then perhaps `refit`; before each of them goes
    `pretrain` or `pretrain-refit`, where asked for.
    """

    stage: str = "search"
    epoch: int = 0
    step: int = 0
    """Step within the epoch: the next one to take."""
    best_epoch: int = 0
    """Epochs done when validation was best; 0 before the first validation too, see `judged`."""
    best_score: float = -1.0
    """Of `best_epoch`; says nothing before the first validation."""
    scores: list[float] = msgspec.field(default_factory=list)
    loss_sum: float = 0.0
    """Of the epoch under way, with `loss_count` predictions."""
    loss_count: int = 0
    seconds: float = 0.0
    """Of training, validation included, over all parts of an interrupted run."""
    fingerprint: str = ""
    """Of configuration, seed and data: a checkpoint of another run is refused."""

    @property
    def judged(self) -> bool:
        """Whether a validation said how good an epoch, or the start, was."""
        return bool(self.scores)


def save_checkpoint(path: Path, tensors: Mapping[str, npt.NDArray[Any]], progress: Progress) -> None:
    """Replace the checkpoint; after a crash at any point the old one or the new one is there, whole."""
    with atomic_file(path) as file:
        write_tensors(file, tensors, {"progress": json.dumps(msgspec.to_builtins(progress))})


def load_checkpoint(path: Path) -> tuple[dict[str, npt.NDArray[Any]], Progress]:
    """Arrays (mapped) and progress; an unreadable file is an InputError naming it."""
    tensors = map_tensors(path)
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return tensors, msgspec.json.decode(header["__metadata__"]["progress"], type=Progress)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} is not a checkpoint of leanrec: train again without --resume") from error


def stored_progress(folder: Path | None, fingerprint: str) -> Progress | None:
    """Where an interrupted run stands, None where nothing is kept; a checkpoint of another run is an InputError."""
    if folder is None or not (folder / "last.safetensors").exists():
        return None
    progress = load_checkpoint(folder / "last.safetensors")[1]
    if progress.fingerprint != fingerprint:
        raise InputError(
            f"{folder} belongs to a run with another configuration, seed or data set: use those again, or another --out"
        )
    return progress
