"""Fields made of other fields when a row is put together: ages at the event, crossed categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import ConfigError
from leanrec.core.registry import nearest
from leanrec.features.base import Encoded, Feature
from leanrec.features.batch import Layout
from leanrec.features.moment import TIME, Moment
from leanrec.kernels.hashing import hash_pairs

__all__ = ["Ages", "Cross", "learn_ages"]

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class _Age:
    column: str
    place: int
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Ages:
    """How old things are at the event: sign(d) log(1 + |d|) of the days d, scaled; and an indicator where unknown.

    moment: the place of the event's own moment among the moments of a row.
    """

    each: tuple[_Age, ...]
    moment: int = -1

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for age in self.each for name in (f"{age.column}.age", f"{age.column}.age.missing"))

    def of(self, moments_BM: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """(B, 2 ages)"""
        made = np.zeros((len(moments_BM), 2 * len(self.each)), np.float32)
        for at, age in enumerate(self.each):
            shaped_B = _days(moments_BM, age.place, self.moment)
            unknown_B = np.isnan(shaped_B)
            made[:, 2 * at] = np.where(unknown_B, 0, (shaped_B - age.mean) / age.deviation)
            made[:, 2 * at + 1] = unknown_B
        return made

    def config(self) -> list[dict[str, Any]]:
        return [{"column": age.column, "mean": age.mean, "deviation": age.deviation} for age in self.each]

    @classmethod
    def load(cls, config: Sequence[Mapping[str, Any]], features: Mapping[Any, Sequence[Feature]]) -> Ages:
        """KeyError when an age is of no moment there is."""
        places = _places(features)
        ages = []
        for one in config:
            mean, deviation = float(one["mean"]), float(one["deviation"])
            if not (np.isfinite(mean) and np.isfinite(deviation) and deviation > 0):
                raise ValueError(f"the age of {one['column']!r} has an impossible scale")
            ages.append(_Age(one["column"], places[one["column"]], mean, deviation))
        return cls(tuple(ages), places[TIME] if ages else -1)


def learn_ages(features: Mapping[Any, Sequence[Feature]], sample: Encoded) -> Ages:
    """The ages that the moments of a sample of training rows allow."""
    places = _places(features)
    wanted = [f.column for some in features.values() for f in some if isinstance(f, Moment) and f.age]
    if TIME not in places:
        return Ages(())
    ages = []
    for column in wanted:
        shaped = _days(sample.moments_BM, places[column], places[TIME])
        known = shaped[~np.isnan(shaped)]
        if len(known):
            ages.append(_Age(column, places[column], float(known.mean()), float(known.std()) or 1.0))
    return Ages(tuple(ages), places[TIME])


def _places(features: Mapping[Any, Sequence[Feature]]) -> dict[str, int]:
    """Column -> its place among the moments of a row."""
    columns = [f.column for side in ("user", "item", "context") for f in features.get(side, ()) if f.moments]
    return {column: place for place, column in enumerate(columns)}


def _days(moments_BM: npt.NDArray[np.float64], place: int, moment: int) -> npt.NDArray[np.float64]:
    days_B = (moments_BM[:, moment] - moments_BM[:, place]) / _DAY
    return np.asarray(np.sign(days_B) * np.log1p(np.abs(days_B)))


@dataclass(frozen=True, slots=True)
class Cross:
    """The combination of two category fields: exact while `size` allows it, else hashed; 0 where either is 0.

    places: of the two among the category fields of a row. sizes: their codes.
    """

    pair: tuple[str, str]
    places: tuple[int, int]
    sizes: tuple[int, int]
    size: int

    @property
    def name(self) -> str:
        return f"{self.pair[0]} x {self.pair[1]}"

    @classmethod
    def of(cls, layout: Layout, pair: tuple[str, str], most: int) -> Cross:
        """The cross of two fields of a layout; ConfigError for one that is not there."""
        for name in pair:
            if name not in layout.categories:
                near, known = nearest(name, list(layout.categories)), ", ".join(layout.categories)
                raise ConfigError(f"features: {name!r} is no category field to cross{near}; there are: {known}")
        places = (layout.categories.index(pair[0]), layout.categories.index(pair[1]))
        sizes = (layout.sizes[places[0]], layout.sizes[places[1]])
        return cls(pair, places, sizes, min(most, max((sizes[0] - 1) * (sizes[1] - 1), 1) + 1))

    def of_codes(self, categories_BF: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """(B,) the codes of the combinations."""
        a_B, b_B = (categories_BF[:, place].astype(np.int64) for place in self.places)
        if self.size > (self.sizes[0] - 1) * (self.sizes[1] - 1):
            codes_B = (a_B - 1) * (self.sizes[1] - 1) + b_B
        else:
            hashes_B = hash_pairs(a_B.astype(np.uint64), b_B.astype(np.uint64))
            codes_B = (hashes_B % np.uint64(self.size - 1)).astype(np.int64) + 1
        return np.where((a_B == 0) | (b_B == 0), 0, codes_B).astype(np.int32)

    def config(self) -> dict[str, Any]:
        return {"pair": list(self.pair), "places": list(self.places), "sizes": list(self.sizes), "size": self.size}

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Cross:
        one, other = (str(name) for name in values["pair"])
        places, sizes = (tuple(int(number) for number in values[key]) for key in ("places", "sizes"))
        if len(places) != 2 or len(sizes) != 2 or not 2 <= int(values["size"]) < 1 << 31:
            raise ValueError("a cross is not of two fields")
        return cls((one, other), (places[0], places[1]), (sizes[0], sizes[1]), int(values["size"]))

    def check(self, layout: Layout) -> None:
        """ValueError unless the fields of the layout are those that were crossed."""
        for name, place, size in zip(self.pair, self.places, self.sizes, strict=True):
            if layout.categories[place] != name or layout.sizes[place] != size:
                raise ValueError(f"the cross {self.name!r} is of other fields")
