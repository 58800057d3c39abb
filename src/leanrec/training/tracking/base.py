"""The contract of a tracker: where the figures of a run go while it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Everywhere", "Tracker"]


class Tracker(ABC):
    """Scalars by name and step, and the settings they belong to, for one run.

    A run that is resumed opens its tracker again with the same folder and goes on where it stopped.
    """

    @abstractmethod
    def __init__(self, run: Path, name: str) -> None:
        """For the run folder `run`, below which everything that stays on this machine is kept. name: of the model."""

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values as of `step`; they outlive a crash right after."""

    @abstractmethod
    def params(self, values: Mapping[str, Any]) -> None:
        """The settings of the run, said once before its scalars."""

    @abstractmethod
    def close(self, *, failed: bool = False) -> None:
        """The run is over. failed: it was cut short by an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)


class Everywhere(Tracker):
    """Several trackers as one; without any, figures go nowhere."""

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = list(trackers)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.scalars(step, values)

    def params(self, values: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.params(values)

    def close(self, *, failed: bool = False) -> None:
        for tracker in self._trackers:
            tracker.close(failed=failed)
