"""Users and items as features, transformed once: rows of a request become a FeatureBatch without reading any frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.features.batch import FeatureBatch
from leanrec.features.space import FeatureSpace

if TYPE_CHECKING:
    from leanrec.data.examples.base import Examples

__all__ = ["FeatureTables"]


class FeatureTables:
    """A feature space with every user's and every item's own fields; what a scorer keeps in the bundle."""

    space: FeatureSpace

    @classmethod
    def build(cls, space: FeatureSpace, examples: Examples) -> Self:
        """The fields of all users and items that `examples` know by rows."""
        raise NotImplementedError

    def pairs(self, queries: Queries, items: Jagged) -> FeatureBatch:
        """(T rows) the features of each listed item for its query: row i of `items` is asked of query i."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        raise NotImplementedError

    def parts(self) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """Arrays for the bundle, by file stem: features, and users and items where there are any."""
        raise NotImplementedError

    @classmethod
    def load(cls, config: Mapping[str, Any], parts: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> Self:
        """The tables as they were stored."""
        raise NotImplementedError
