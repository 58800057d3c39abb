"""TensorBoard event files: `tensorboard --logdir RUN/tensorboard`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from leanrec.training.tracking.base import Tracker

__all__ = ["TensorBoard"]


class TensorBoard(Tracker):
    """Scalars and, as text, the settings."""

    def __init__(self, run: Path, name: str) -> None:
        self._name = name
        self._writer: Any = SummaryWriter(str(run / "tensorboard"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def params(self, values: Mapping[str, Any]) -> None:
        rows = [f"| {name} | {json.dumps(value)} |" for name, value in values.items()]
        self._writer.add_text(self._name, "\n".join(["| setting | value |", "|---|---|", *rows]))

    def close(self, *, failed: bool = False) -> None:
        self._writer.close()
