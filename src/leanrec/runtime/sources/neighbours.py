"""Items that share users with the history: sums of stored similarities, touching only the neighbours of the history."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.kernels.neighbours import score_neighbours, search_neighbours
from leanrec.runtime.base import Parts, Source

__all__ = ["NeighbourSource"]


class NeighbourSource(Source):
    """score(j) = sum over the last `window` events i of the history of weight(age of i) * similarity(i, j).

    neighbours: N rows of int32 item rows, never the item itself. similarities: (T,) float32 beside them, below 0 too
    where they are the weights of a linear model; an item whose score is not above 0 is not answered. selves_N: (N,)
    float32, the similarity of an item to itself, which brings back items that may be repeated; 0 for items nobody had.
    half_life: events after which an event counts half; None for all alike.
    """

    kind: ClassVar[str] = "neighbours"

    def __init__(
        self, name: str, neighbours: Jagged, similarities: npt.NDArray[np.float32], selves_N: npt.NDArray[np.float32],
        *, window: int, half_life: float | None,
    ) -> None:  # fmt: skip
        assert len(neighbours) == len(selves_N) and len(neighbours.values) == len(similarities)
        self.name = name
        self.num_items = len(neighbours)
        self.neighbours, self.similarities, self.selves_N = neighbours, similarities, selves_N
        self.window, self.half_life = window, half_life
        self._weights_L = np.ones(window) if half_life is None else 0.5 ** (np.arange(window) / half_life)
        self._scratch = threading.local()

    def search(self, queries: Queries) -> Hits:
        hits = Hits.none(len(queries), queries.k)
        exclude = Jagged.empty(0) if queries.exclude is None else queries.exclude
        allowed_N = np.empty(0, np.bool_) if queries.allowed is None else queries.allowed
        sums_N, touched_N = self._sums()
        search_neighbours(
            *self._asked(queries.histories), exclude.offsets, exclude.values, allowed_N, sums_N, touched_N,
            hits.items_BK, hits.scores_BK,
        )  # fmt: skip
        return hits

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        scores_T = np.empty(len(items.values), np.float32)
        sums_N, touched_N = self._sums()
        score_neighbours(*self._asked(queries.histories), items.offsets, items.values, sums_N, touched_N, scores_T)
        return scores_T

    def _asked(self, histories: Jagged) -> tuple[Any, Any, Any, Any, Any, Any, Any]:
        own = self.neighbours
        lists = (own.offsets, own.values, self.similarities)
        return (histories.offsets, histories.values, self._weights_L, self.selves_N, *lists)

    def _sums(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
        """Scratch of this thread: sums over all items, zero between calls, and the items touched."""
        if not hasattr(self._scratch, "sums_N"):
            self._scratch.sums_N = np.zeros(self.num_items)
            self._scratch.touched_N = np.empty(self.num_items, np.int32)
        return self._scratch.sums_N, self._scratch.touched_N

    def config(self) -> dict[str, Any]:
        return {"window": self.window, "half_life": self.half_life}

    def parts(self) -> Parts:
        arrays = {
            "offsets": self.neighbours.offsets,
            "items": self.neighbours.values,
            "similarities": self.similarities,
            "selves": self.selves_N,
        }
        return {"neighbours": arrays}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        try:
            arrays = parts["neighbours"]
            offsets, items, selves_N = arrays["offsets"], arrays["items"], arrays["selves"]
            similarities, window, half_life = arrays["similarities"], config["window"], config["half_life"]
            _check(offsets, items, similarities, selves_N, window, half_life)
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(f"the source {name!r} is broken ({error}): make the bundle again") from error
        return cls(name, Jagged(items, offsets), similarities, selves_N, window=window, half_life=half_life)


def _check(
    offsets: npt.NDArray[Any], items: npt.NDArray[Any], similarities: npt.NDArray[Any], selves_N: npt.NDArray[Any],
    window: Any, half_life: Any,
) -> None:  # fmt: skip
    """ValueError unless the compiled loops can trust the arrays not to point outside."""
    kinds = [(array.dtype.str, array.ndim) for array in (offsets, items, similarities, selves_N)]
    if kinds != [("<i8", 1), ("<i4", 1), ("<f4", 1), ("<f4", 1)]:
        raise ValueError("arrays of other types")
    if offsets.shape != (len(selves_N) + 1,) or similarities.shape != items.shape:
        raise ValueError("arrays of other lengths")
    if offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 0).any():
        raise ValueError("offsets do not cover the neighbours")
    if len(items) and not (items.min() >= 0 and items.max() < len(selves_N)):
        raise ValueError("a neighbour is no item")
    if not (selves_N >= 0).all() or not np.isfinite(similarities).all() or not np.isfinite(selves_N).all():
        raise ValueError("a similarity is not a number")
    if type(window) is not int or not 0 < window <= 1 << 20:
        raise ValueError(f"window {window!r}")
    if half_life is not None and not half_life > 0:
        raise ValueError(f"half_life {half_life!r}")
