"""The feature space: raw columns to a FeatureBatch, learnt on the training part and applied alike ever after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.features.batch import FeatureBatch, Layout

if TYPE_CHECKING:
    import polars as pl

    from leanrec.data.examples.base import Examples

__all__ = ["FeatureConfig", "FeatureSpace"]


class FeatureConfig(Config, frozen=True, kw_only=True):
    """What is None is chosen from the data."""

    columns: dict[str, str | dict[str, Any]] = msgspec.field(default_factory=dict)
    """Column -> kind, or a table of `kind` and its settings; the others are guessed. `ignore` leaves one out."""
    crosses: tuple[tuple[str, str], ...] = ()
    """Pairs of category fields that become fields of their own."""
    history: int = 50
    """Items of the history that are kept, the newest; 0 leaves it out."""


class FeatureSpace:
    """`fit` on examples, then `transform` any frame of raw columns; `config` and `tensors` are what `load` needs."""

    layout: Layout

    @classmethod
    def fit(cls, examples: Examples, config: FeatureConfig | None = None) -> Self:
        """Learn from the training part in one streaming pass."""
        raise NotImplementedError

    def transform(self, frame: pl.DataFrame) -> FeatureBatch:
        """(B rows) of a frame; a column that is not there counts as missing."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        raise NotImplementedError

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the bundle."""
        raise NotImplementedError

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The space as it was stored."""
        raise NotImplementedError
