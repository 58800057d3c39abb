"""Moments: of the event itself, its hour and weekday; of anything else (a release, a birthday), its age then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.features.base import Encoded, Feature, Learner

if TYPE_CHECKING:
    from leanrec.features.series import Column

__all__ = ["TIME", "Moment", "MomentConfig"]

TIME = "timestamp"
"""The column of the event's own moment, as `data.examples` calls it."""

_HOUR, _DAY = 3600.0, 86_400.0
_THURSDAY = 3
"""1970-01-01, counting from Monday."""


class MomentConfig(Config, frozen=True, kw_only=True):
    """Which fields a moment becomes. What is None is done for the event's own moment alone."""

    hour: bool | None = None
    """Hour of the day, in `offset` from UTC."""
    weekday: bool | None = None
    """Day of the week."""
    offset: float = 0.0
    """Hours to add to UTC."""
    age: bool = True
    """The logarithm of the days from it to the event, unless it is the event's own moment."""


class Moment(Feature):
    """Category fields `COLUMN.hour` (1 to 24) and `COLUMN.weekday` (1 is Monday); the age is added by the space."""

    kind = "time"
    Config: ClassVar[type[Config]] = MomentConfig
    moments = 1

    def __init__(self, column: str, *, hour: bool, weekday: bool, offset: float, age: bool) -> None:
        self.column, self.hour, self.weekday, self.offset, self.age = column, hour, weekday, offset, age
        fields = (("hour", 25, hour), ("weekday", 8, weekday))
        self.categories = tuple((f"{column}.{name}", size) for name, size, wanted in fields if wanted)

    def encode(self, column: Column) -> Encoded:
        seconds_B = column.moments()
        missing_B = np.isnan(seconds_B)
        local_B = np.floor(np.where(missing_B, 0, seconds_B) + _HOUR * self.offset)
        codes = []
        if self.hour:
            codes.append(np.where(missing_B, 0, local_B % _DAY // _HOUR + 1))
        if self.weekday:
            codes.append(np.where(missing_B, 0, (local_B // _DAY + _THURSDAY) % 7 + 1))
        return self.encoded(len(seconds_B), categories=codes, moments=[seconds_B])

    def config(self) -> dict[str, Any]:
        return {"hour": self.hour, "weekday": self.weekday, "offset": self.offset, "age": self.age}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    @classmethod
    def learner(cls, column: str, config: Any) -> Learner:
        return _Learner(column, config)

    @classmethod
    def load(cls, column: str, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        offset = float(config["offset"])
        if not abs(offset) <= 24:
            raise ValueError(f"{column!r} is {offset} hours from UTC")
        flags = {key: bool(config[key]) for key in ("hour", "weekday", "age")}
        return cls(column, offset=offset, **flags)


class _Learner(Learner):
    """Nothing is to be learnt."""

    def __init__(self, column: str, config: MomentConfig) -> None:
        super().__init__(column)
        self._config = config

    def add(self, column: Column) -> None:
        self.rows += len(column)

    def finish(self) -> Moment:
        config, own = self._config, self.column == TIME
        hour = own if config.hour is None else config.hour
        weekday = own if config.weekday is None else config.weekday
        return Moment(self.column, hour=hour, weekday=weekday, offset=config.offset, age=config.age and not own)
