"""Which fields matter: by what they say of the label alone, by what a model loses without them, by its own gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.features.batch import FeatureBatch, Layout

__all__ = ["Ranked", "fields", "mutual_information", "permutation_importance", "rank"]

_BINS = 20


@dataclass(frozen=True, slots=True)
class Ranked:
    """A field and how much it matters, in the measure's own unit; spread: standard error over repeats, if any."""

    field: str
    importance: float
    spread: float = 0.0


def fields(layout: Layout) -> list[str]:
    """All fields: categories, lists, numbers, and the history where there is one."""
    return [*layout.categories, *layout.lists, *layout.numbers, *(["history"] if layout.history else [])]


def rank(names: Sequence[str], importances: Sequence[float], spreads: Sequence[float] = ()) -> list[Ranked]:
    """Fields by falling importance (of gates: their sizes, one for each name); equal ones in their order."""
    assert len(names) == len(importances) and len(spreads) in (0, len(names))
    spreads = spreads or [0.0] * len(names)
    ranked = [Ranked(*one) for one in zip(names, map(float, importances), map(float, spreads), strict=True)]
    return sorted(ranked, key=lambda one: -one.importance)


def mutual_information(batch: FeatureBatch, labels_B: npt.NDArray[np.integer[Any]]) -> list[Ranked]:
    """Nats that each category and number field (in 20 ranges of as many rows each) says of the label, alone.

    What (codes - 1) (labels - 1) / 2B independent codes would seem to say by chance is taken off (Miller 1955), so that
    a field of many rare codes does not win by their number. Lists and histories are not judged.
    """
    names = [*batch.layout.categories, *batch.layout.numbers]
    columns = [*batch.categories_BF.T, *(_ranges(column) for column in batch.numbers_BF.T)]
    return rank(names, [_information(column, labels_B) for column in columns])


def permutation_importance(
    score: Callable[[FeatureBatch], npt.NDArray[Any]],
    batch: FeatureBatch,
    loss: Callable[[npt.NDArray[Any]], float],
    *,
    repeats: int = 3,
    seed: int = 0,
) -> list[Ranked]:
    """How much the loss of a model rises when the rows of one field are shuffled (Breiman 2001, section 10).

    score: (B,) a model's scores of a batch. loss: of such scores, less is better, over labels of the same rows.
    A number and its indicator of gaps are shuffled together, since one follows from the other.
    """
    rng = np.random.default_rng(seed)
    base = loss(score(batch))
    names = [name for name in fields(batch.layout) if not _is_indicator(name, batch.layout)]
    rises = []
    for name in names:
        losses = [loss(score(_shuffled(batch, name, rng.permutation(len(batch))))) for _ in range(repeats)]
        rises.append(np.array(losses) - base)
    spreads = [float(rise.std(ddof=1)) / repeats**0.5 if repeats > 1 else 0.0 for rise in rises]
    return rank(names, [float(rise.mean()) for rise in rises], spreads)


def _is_indicator(name: str, layout: Layout) -> bool:
    return name.endswith(".missing") and name.removesuffix(".missing") in layout.numbers


def _shuffled(batch: FeatureBatch, name: str, order: npt.NDArray[np.int64]) -> FeatureBatch:
    """The batch with the rows of one field in another order."""
    layout = batch.layout
    numbers, categories, lists, history = batch.numbers_BF, batch.categories_BF, batch.lists, batch.history
    if name in layout.categories:
        categories = _with_column(categories, [layout.categories.index(name)], order)
    elif name in layout.lists:
        place = layout.lists.index(name)
        lists = tuple(one.take(order) if at == place else one for at, one in enumerate(lists))
    elif name in layout.numbers:
        together = [at for at, other in enumerate(layout.numbers) if other in (name, f"{name}.missing")]
        numbers = _with_column(numbers, together, order)
    else:
        history = _taken(history, order)
    return FeatureBatch(layout, numbers, categories, lists, history)


def _taken(history: Jagged | None, order: npt.NDArray[np.int64]) -> Jagged | None:
    return None if history is None else history.take(order)


def _with_column(matrix_BF: npt.NDArray[Any], places: list[int], order: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    changed = matrix_BF.copy()
    changed[:, places] = matrix_BF[order][:, places]
    return changed


def _ranges(numbers_B: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    edges = np.unique(np.quantile(numbers_B, np.arange(1, _BINS) / _BINS)) if len(numbers_B) else np.empty(0)
    return np.searchsorted(edges, numbers_B, side="right")


def _information(codes_B: npt.NDArray[Any], labels_B: npt.NDArray[Any]) -> float:
    """Mutual information in nats, less its bias."""
    if not len(codes_B):
        return 0.0
    codes, code_B = np.unique(codes_B, return_inverse=True)
    labels, label_B = np.unique(labels_B, return_inverse=True)
    joint = np.bincount(code_B * len(labels) + label_B, minlength=len(codes) * len(labels)).reshape(len(codes), -1)
    share = joint / len(codes_B)
    apart = share.sum(axis=1, keepdims=True) * share.sum(axis=0)
    seen = share > 0
    bias = (len(codes) - 1) * (len(labels) - 1) / (2 * len(codes_B))
    return max(0.0, float((share[seen] * np.log(share[seen] / apart[seen])).sum()) - bias)
