"""Where a run's scalars go: TensorBoard event files, when the run has a folder."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Tracker"]


class Tracker:
    """Scalars by name and step; without a folder they go nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write the values as of `step`, and see that they reach the disk."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
