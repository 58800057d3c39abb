"""Numbers: outliers clipped, heavy tails taken as logarithms, scaled to mean 0 and deviation 1, buckets on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.features.base import Encoded, Feature, Learner
from leanrec.features.streams import Reservoir

if TYPE_CHECKING:
    from leanrec.features.series import Column

__all__ = ["Number", "NumberConfig"]

_SKEWED = 20.0


class NumberConfig(Config, frozen=True, kw_only=True):
    """What is None is chosen from the column."""

    scale: Literal["standard", "log", "none"] | None = None
    """`log` takes sign(x) log(1 + |x|) before mean and deviation; chosen when the largest of a hundred is more than 20
    times the median. `none` leaves the clipped number as it is."""
    clip: float = 0.001
    """Share of outliers on each side that is moved to the nearest number that is none."""
    buckets: int = 0
    """A category field beside the number, of so many ranges with about as many rows each; 0 for none."""

    def __post_init__(self) -> None:
        if not 0 <= self.clip < 0.5:
            raise ValueError(f"clip must be at least 0 and below 0.5, not {self.clip}")
        if self.buckets < 0 or self.buckets == 1:
            raise ValueError(f"buckets must be 0 or at least 2, not {self.buckets}")


class Number(Feature):
    """A number; where some were missing in training, a second field that is 1 where it is.

    A missing number is the mean, 0 after scaling (and code 0 among buckets).
    """

    kind = "number"
    Config: ClassVar[type[Config]] = NumberConfig

    def __init__(
        self, column: str, *, low: float, high: float, log: bool, mean: float, deviation: float, missing: bool,
        edges: npt.NDArray[np.float64],
    ) -> None:  # fmt: skip
        self.column, self.low, self.high, self.log, self.missing = column, low, high, log, missing
        self.mean, self.deviation, self.edges = mean, deviation, edges
        self.numbers = (column, f"{column}.missing") if missing else (column,)
        self.categories = ((f"{column}.bucket", len(edges) + 2),) if len(edges) else ()

    def encode(self, column: Column) -> Encoded:
        raw_B = column.numbers()
        missing_B = np.isnan(raw_B)
        clipped_B = np.clip(raw_B, self.low, self.high)
        scaled_B = ((_logarithm(clipped_B) if self.log else clipped_B) - self.mean) / self.deviation
        numbers = [np.where(missing_B, 0, scaled_B)]
        codes_B = np.where(missing_B, 0, np.searchsorted(self.edges, raw_B, side="right") + 1)
        return self.encoded(
            len(raw_B),
            numbers=[*numbers, missing_B] if self.missing else numbers,
            categories=[codes_B] if self.categories else [],
        )

    def config(self) -> dict[str, Any]:
        return {
            "low": self.low, "high": self.high, "log": self.log, "mean": self.mean, "deviation": self.deviation,
            "missing": self.missing,
        }  # fmt: skip

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"edges": self.edges}

    @classmethod
    def learner(cls, column: str, config: Any) -> Learner:
        return _Learner(column, config)

    @classmethod
    def load(cls, column: str, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        edges = tensors["edges"]
        if edges.dtype != np.float64 or edges.ndim != 1 or (np.diff(edges) <= 0).any():
            raise ValueError(f"the ranges of {column!r} do not rise")
        low, high, mean, deviation = (float(config[key]) for key in ("low", "high", "mean", "deviation"))
        if not (np.isfinite([low, high, mean, deviation]).all() and low <= high and deviation > 0):
            raise ValueError(f"the scale of {column!r} is impossible")
        return cls(
            column, low=low, high=high, log=bool(config["log"]), mean=mean, deviation=deviation,
            missing=bool(config["missing"]), edges=edges,
        )  # fmt: skip


class _Learner(Learner):
    def __init__(self, column: str, config: NumberConfig) -> None:
        super().__init__(column)
        self._config, self._sample, self._missing = config, Reservoir(), 0

    def add(self, column: Column) -> None:
        numbers = column.numbers()
        present = ~np.isnan(numbers)
        self._missing += len(numbers) - int(present.sum())
        self._sample.add(numbers[present])

    def finish(self) -> Number:
        config, sample = self._config, self._sample.finish()
        if not len(sample):
            sample = np.zeros(1)
        # Numbers that are there: a quantile between two far apart would clip one of a few rows to what nobody had.
        low, high = np.quantile(sample, [config.clip, 1 - config.clip], method="closest_observation")
        clipped = np.clip(sample, low, high)
        log = config.scale == "log" or (config.scale is None and _is_skewed(clipped))
        shaped = _logarithm(clipped) if log else clipped
        mean, deviation = (0.0, 1.0) if config.scale == "none" else (float(shaped.mean()), float(shaped.std()))
        if not deviation > 1e-12 * max(abs(mean), 1e-12):
            deviation = 1.0
        edges = np.empty(0)
        if config.buckets:
            edges = np.unique(np.quantile(sample, np.arange(1, config.buckets) / config.buckets))
        return Number(
            self.column, low=float(low), high=float(high), log=log, mean=mean, deviation=deviation,
            missing=self._missing > 0, edges=edges,
        )  # fmt: skip


def _logarithm(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.sign(numbers) * np.log1p(np.abs(numbers)))


def _is_skewed(rising: npt.NDArray[np.float64]) -> bool:
    median, nearly_all = np.quantile(np.abs(rising), [0.5, 0.99])
    return bool(nearly_all > _SKEWED * max(float(median), 1e-12) and nearly_all > _SKEWED)
