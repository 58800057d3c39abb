"""Categories and lists of them: codes by falling frequency, rare ones cut off, or hashed into buckets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.console import say
from leanrec.core.jagged import Jagged
from leanrec.features.base import Encoded, Feature, Learner
from leanrec.features.streams import Counts

if TYPE_CHECKING:
    from leanrec.features.series import Column

__all__ = ["Category", "CategoryConfig", "Codes", "ListConfig", "Listed"]

_MANY_ROWS = 1_000_000
_LEAST, _LEAST_OF_MANY = 2, 10


class CategoryConfig(Config, frozen=True, kw_only=True):
    """What is None is chosen from the data."""

    min_count: int | None = None
    """Categories that came less often share code 0 (chosen: 2 times, 10 from a million rows on)."""
    most: int | None = None
    """Only so many, the most frequent."""
    hash: int = 0
    """Instead of codes of their own, so many buckets into which categories are hashed, known or new; 0 for none."""

    def __post_init__(self) -> None:
        for key, least in (("min_count", 1), ("most", 1), ("hash", 0)):
            value = getattr(self, key)
            if value is not None and not least <= value < 1 << 31:
                raise ValueError(f"{key} must be at least {least}, not {value}")


class ListConfig(CategoryConfig, frozen=True, kw_only=True):
    """As for categories."""

    separator: str = "|"
    """Between the entries of a list that came as text."""


class Codes:
    """Hash -> code: 1 is the most frequent category, 0 one that is rare, new or missing.

    keys: (V,) uint64, rising. codes: (V,) int32, 1 to V. buckets: when above 0, every hash has a code from 1 to that.
    """

    def __init__(self, keys: npt.NDArray[np.uint64], codes: npt.NDArray[np.int32], buckets: int) -> None:
        self.keys, self.codes, self.buckets = keys, codes, buckets
        self.size = 1 + (buckets or len(keys))

    @classmethod
    def of_counts(cls, counts: Counts, rows: int, config: CategoryConfig, column: str) -> Codes:
        if config.hash:
            return cls(np.empty(0, np.uint64), np.empty(0, np.int32), config.hash)
        keys, times = counts.finish()
        least = config.min_count or (_LEAST_OF_MANY if rows >= _MANY_ROWS else _LEAST)
        if counts.lost >= least:
            say(f"{column}: too many categories to count each; up to {counts.lost} of each were not counted")
        keys = keys[: int((times >= least).sum())][: config.most]
        order = np.argsort(keys)
        return cls(keys[order], (order + 1).astype(np.int32), 0)

    def of(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """The code of each hash."""
        if self.buckets:
            return (hashes % np.uint64(self.buckets)).astype(np.int32) + np.int32(1)
        if not len(self.keys):
            return np.zeros(len(hashes), np.int32)
        place = np.minimum(np.searchsorted(self.keys, hashes), len(self.keys) - 1)
        return np.where(self.keys[place] == hashes, self.codes[place], np.int32(0))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"keys": self.keys, "codes": self.codes}

    @classmethod
    def load(cls, buckets: Any, tensors: Mapping[str, npt.NDArray[Any]]) -> Codes:
        """ValueError unless every code is one of as many as there are keys."""
        keys, codes = tensors["keys"], tensors["codes"]
        if keys.dtype != np.uint64 or codes.dtype != np.int32 or keys.shape != (len(codes),):
            raise ValueError("codes of other types or lengths")
        if (keys[1:] <= keys[:-1]).any() or (len(codes) and not (codes.min() >= 1 and codes.max() <= len(keys))):
            raise ValueError("codes out of order or range")
        if type(buckets) is not int or not 0 <= buckets < 1 << 31:
            raise ValueError(f"{buckets!r} buckets")
        return cls(keys, codes, buckets)


class Category(Feature):
    """One category a row."""

    kind = "category"
    Config: ClassVar[type[Config]] = CategoryConfig

    def __init__(self, column: str, codes: Codes) -> None:
        self.column, self.codes = column, codes
        self.categories = ((column, codes.size),)

    def encode(self, column: Column) -> Encoded:
        hashes, present_B = column.hashes()
        return self.encoded(len(present_B), categories=[np.where(present_B, self.codes.of(hashes), 0)])

    def config(self) -> dict[str, Any]:
        return {"buckets": self.codes.buckets}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return self.codes.tensors()

    @classmethod
    def learner(cls, column: str, config: Any) -> Learner:
        return _CategoryLearner(column, config)

    @classmethod
    def load(cls, column: str, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        return cls(column, Codes.load(config["buckets"], tensors))


class Listed(Feature):
    """Any number of categories a row; new and rare ones are left out."""

    kind = "list"
    Config: ClassVar[type[Config]] = ListConfig

    def __init__(self, column: str, codes: Codes, separator: str) -> None:
        self.column, self.codes, self.separator = column, codes, separator
        self.lists = ((column, codes.size),)

    def encode(self, column: Column) -> Encoded:
        hashes = column.lists(self.separator)
        codes = Jagged(self.codes.of(hashes.values), hashes.offsets)
        return self.encoded(len(column), lists=(codes.where(codes.values > 0),))

    def config(self) -> dict[str, Any]:
        return {"buckets": self.codes.buckets, "separator": self.separator}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return self.codes.tensors()

    @classmethod
    def learner(cls, column: str, config: Any) -> Learner:
        return _ListLearner(column, config)

    @classmethod
    def load(cls, column: str, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        return cls(column, Codes.load(config["buckets"], tensors), str(config["separator"]))


class _CategoryLearner(Learner):
    def __init__(self, column: str, config: CategoryConfig) -> None:
        super().__init__(column)
        self._config, self._counts = config, Counts()

    def add(self, column: Column) -> None:
        self.rows += len(column)
        if not self._config.hash:
            hashes, present = column.hashes()
            self._counts.add(hashes[present])

    def finish(self) -> Category:
        return Category(self.column, Codes.of_counts(self._counts, self.rows, self._config, self.column))


class _ListLearner(Learner):
    def __init__(self, column: str, config: ListConfig) -> None:
        super().__init__(column)
        self._config, self._counts = config, Counts()

    def add(self, column: Column) -> None:
        self.rows += len(column)
        self._counts.add(column.lists(self._config.separator).values)

    def finish(self) -> Listed:
        codes = Codes.of_counts(self._counts, self.rows, self._config, self.column)
        return Listed(self.column, codes, self._config.separator)
