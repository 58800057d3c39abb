"""What the users most like a history had: the training users' sets of items, compared with the question's."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.kernels.similar_users import score_by_users, search_by_users
from leanrec.kernels.similarity import SIMILARITIES, Weighting, distinct_counts
from leanrec.runtime.base import Parts, Source

__all__ = ["SimilarUsersSource"]


class SimilarUsersSource(Source):
    """score(j) = sum of similarity(history, u) over the `users` training users u most like the history that had j.

    had: U rows of distinct int32 item rows, rising. counts_T: (T,) int32 how often each user had each. weighting: the
    similarity, with users as documents and items as terms. window: events of a history that count, the newest.
    A history is folded in by this definition, so known and unknown users are answered alike, and no user id is kept.
    """

    kind: ClassVar[str] = "similar-users"

    def __init__(
        self, name: str, had: Jagged, counts_T: npt.NDArray[np.int32], weighting: Weighting, *, users: int,
        shrinkage: float, window: int,
    ) -> None:  # fmt: skip
        assert len(had.values) == len(counts_T)
        self.name, self.had, self.counts_T, self.weighting = name, had, counts_T, weighting
        self.users, self.shrinkage, self.window = users, shrinkage, window
        self.num_items = len(weighting.idf_F)
        weights_T, norms_U = weighting.weights(had, counts_T)
        order_T = np.argsort(had.values, kind="stable")
        by_item = Jagged.from_lengths(
            had.row_of()[order_T].astype(np.int32), np.bincount(had.values, minlength=self.num_items)
        )
        self._known = (had.offsets, had.values, by_item.offsets, by_item.values, weights_T[order_T], norms_U)
        self._scratch = threading.local()

    def search(self, queries: Queries) -> Hits:
        hits = Hits.none(len(queries), queries.k)
        exclude = Jagged.empty(0) if queries.exclude is None else queries.exclude
        allowed_N = np.empty(0, np.bool_) if queries.allowed is None else queries.allowed
        search_by_users(
            *self._asked(queries.histories), exclude.offsets, exclude.values, allowed_N, *self._sums(), hits.items_BK,
            hits.scores_BK,
        )  # fmt: skip
        return hits

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        scores_T = np.empty(len(items.values), np.float32)
        score_by_users(*self._asked(queries.histories), items.offsets, items.values, *self._sums(), scores_T)
        return scores_T

    def _asked(self, histories: Jagged) -> tuple[Any, Any, Any, Any, Any, Any, Any, Any, Any, Any, Any, Any, Any]:
        asked, counts_T = distinct_counts(histories.last(self.window), self.num_items)
        weights_T, norms_B = self.weighting.weights(asked, counts_T)
        users = min(self.users, len(self.had))
        settings = (users, float(self.shrinkage), self.weighting.jaccard)
        return (asked.offsets, asked.values, weights_T, norms_B, *self._known, *settings)

    def _sums(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32], npt.NDArray[np.float64], Any]:
        """Scratch of this thread for users and items: sums, zero between calls, and what was touched."""
        if not hasattr(self._scratch, "arrays"):
            sizes = (len(self.had), self.num_items)
            shared_U, sums_N = (np.zeros(size) for size in sizes)
            touched_U, touched_N = (np.empty(size, np.int32) for size in sizes)
            self._scratch.arrays = (shared_U, touched_U, sums_N, touched_N)
        arrays: tuple[Any, Any, Any, Any] = self._scratch.arrays
        return arrays

    def config(self) -> dict[str, Any]:
        return {
            "similarity": self.weighting.kind,
            "mean_events": self.weighting.mean_events,
            "users": self.users,
            "shrinkage": self.shrinkage,
            "window": self.window,
        }

    def parts(self) -> Parts:
        arrays = {
            "offsets": self.had.offsets,
            "items": self.had.values,
            "counts": self.counts_T,
            "idf": self.weighting.idf_F,
        }
        return {"users": arrays}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        try:
            arrays = parts["users"]
            offsets, items, counts_T, idf_N = (arrays[key] for key in ("offsets", "items", "counts", "idf"))
            _check(offsets, items, counts_T, idf_N)
            users, shrinkage, window = config["users"], config["shrinkage"], config["window"]
            kind, mean_events = config["similarity"], config["mean_events"]
            if not (
                type(users) is int and users > 0 and type(window) is int and 0 < window < 1 << 31 and shrinkage >= 0
            ):
                raise ValueError(f"users {users!r}, window {window!r}, shrinkage {shrinkage!r}")
            if kind not in SIMILARITIES or not 0 <= mean_events < np.inf:
                raise ValueError(f"similarity {kind!r}, mean_events {mean_events!r}")
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(f"the source {name!r} is broken ({error}): make the bundle again") from error
        weighting = Weighting(kind, idf_N, float(mean_events))
        had = Jagged(items, offsets)
        return cls(name, had, counts_T, weighting, users=users, shrinkage=shrinkage, window=window)


def _check(
    offsets: npt.NDArray[Any], items: npt.NDArray[Any], counts_T: npt.NDArray[Any], idf_N: npt.NDArray[Any]
) -> None:
    """ValueError unless the compiled loops can trust the arrays not to point outside."""
    kinds = [(array.dtype.str, array.ndim) for array in (offsets, items, counts_T, idf_N)]
    if kinds != [("<i8", 1), ("<i4", 1), ("<i4", 1), ("<f4", 1)]:
        raise ValueError("arrays of other types")
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 0).any():
        raise ValueError("offsets do not cover what users had")
    if len(counts_T) != len(items) or not np.isfinite(idf_N).all() or (counts_T < 1).any():
        raise ValueError("counts or weights do not fit")
    if len(items) and not (items.min() >= 0 and items.max() < len(idf_N)):
        raise ValueError("what a user had is no item")
