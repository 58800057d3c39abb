"""Boosted trees in Numba: what LightGBM learnt, without LightGBM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.features.batch import FeatureBatch, Layout
from leanrec.kernels.trees import score_trees

__all__ = ["TreeEngine", "tree_inputs"]

_ARRAYS: Mapping[str, str] = {
    "roots": "<i4", "feature": "<i4", "threshold": "<f8", "children": "<i4", "value": "<f8", "sets": "<u4",
    "set_offsets": "<i4",
}  # fmt: skip

_WIDEST = 1 << 17
"""Columns of `tree_inputs`, of which no array on disk says how many they may be."""


def tree_inputs(batch: FeatureBatch) -> npt.NDArray[np.float64]:
    """(B, F) what trees look at: category codes, then a column 0 or 1 for each code of each list, then numbers."""
    parts = [batch.categories_BF.astype(np.float64)]
    for one, size in zip(batch.lists, batch.layout.list_sizes, strict=True):
        flags = np.zeros((len(batch), size))
        flags[one.row_of(), one.values] = 1
        parts.append(flags)
    return np.concatenate([*parts, batch.numbers_BF.astype(np.float64)], axis=1)


class TreeEngine:
    """See `kernels.trees.score_trees` for the arrays; `feature` counts the columns of `tree_inputs`."""

    kind: ClassVar[str] = "trees"

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], layout: Layout) -> None:
        self.arrays, self.layout = arrays, layout

    def raw(self, batch: FeatureBatch) -> npt.NDArray[np.float32]:
        """(B, 1) sums of leaves, logits where the trees were boosted on log loss."""
        scores_B: npt.NDArray[np.float64] = score_trees(tree_inputs(batch), *(self.arrays[name] for name in _ARRAYS))
        return scores_B.astype(np.float32)[:, None]

    def config(self) -> dict[str, Any]:
        """Nothing beside the arrays."""
        return {}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The trees."""
        return dict(self.arrays)

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], layout: Layout) -> Self:
        """A BundleError unless the kernel can trust the arrays: every walk goes forward and ends at a leaf."""
        try:
            arrays = {name: tensors[name] for name in _ARRAYS}
            _check(arrays, len(layout.categories) + sum(layout.list_sizes) + len(layout.numbers))
        except (KeyError, ValueError, IndexError) as error:
            raise BundleError(f"the trees are broken ({error}): write the bundle again") from error
        return cls(arrays, layout)


def _check(arrays: Mapping[str, npt.NDArray[Any]], columns: int) -> None:
    if columns > _WIDEST:
        raise ValueError(f"{columns:,} columns")
    for name, kind in _ARRAYS.items():
        if arrays[name].dtype.str != kind or arrays[name].ndim != 1 + (name == "children"):
            raise ValueError(f"{name} of another type or shape")
    nodes = len(arrays["feature"])
    feature, children, offsets = arrays["feature"], arrays["children"], arrays["set_offsets"]
    shapes = [(arrays[name].shape, (nodes,)) for name in ("threshold", "value")]
    if children.shape != (nodes, 2) or offsets.shape != (nodes + 1,) or any(a != b for a, b in shapes):
        raise ValueError("arrays of other lengths")
    inner = feature >= 0
    if nodes and not (feature.max() < columns and (children[inner] > np.flatnonzero(inner)[:, None]).all()):
        raise ValueError("a node that leads backwards, or to a column that is not there")
    if nodes and not (children[inner] < nodes).all():
        raise ValueError("a node that leads outside")
    if offsets[0] != 0 or offsets[-1] != len(arrays["sets"]) or (np.diff(offsets) < 0).any():
        raise ValueError("sets of codes that overlap")
    roots = arrays["roots"]
    if len(roots) and not (roots.min() >= 0 and roots.max() < nodes):
        raise ValueError("a root that is no node")
