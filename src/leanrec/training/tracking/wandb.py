"""Weights & Biases: offline in the run folder, unless the user is logged in or says otherwise.

`wandb sync RUN/wandb/offline-run-*` sends an offline run later.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from leanrec.core.errors import MachineError
from leanrec.training.tracking.base import Tracker

__all__ = ["WeightsAndBiases"]


class WeightsAndBiases(Tracker):
    """One W&B run in the project `leanrec` (or WANDB_PROJECT), named after the run folder.

    Goes to the service only when WANDB_MODE or WANDB_API_KEY is set. Its identity follows from the run folder, so a
    resumed run is the same one.
    """

    def __init__(self, run: Path, name: str) -> None:
        run.mkdir(parents=True, exist_ok=True)
        online = "WANDB_MODE" in os.environ or "WANDB_API_KEY" in os.environ
        try:
            self._run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "leanrec"),
                id=hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16],
                name=run.name,
                group=name,
                dir=str(run),
                mode=None if online else "offline",
                resume="allow" if online else None,
                settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
            )
        except wandb.errors.Error as error:
            raise MachineError(
                f"W&B does not take the run ({str(error).splitlines()[0]}): set WANDB_MODE=offline, "
                "or leave wandb out of --track"
            ) from error

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def params(self, values: Mapping[str, Any]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def close(self, *, failed: bool = False) -> None:
        self._run.finish(exit_code=int(failed))
