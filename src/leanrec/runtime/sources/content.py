"""Items whose attributes are like those of the history: cosine of sparse vectors, no interaction needed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.kernels.profiles import score_profiles, search_profiles
from leanrec.runtime.base import Parts, Source

__all__ = ["ContentSource"]


class ContentSource(Source):
    """score(j) = cosine of j's vector with the weighted sum of the vectors of the last `window` events.

    terms: N rows of int32 terms below num_terms, distinct. values: (T,) float32 beside them; each item's vector has
    length 1, or no terms where nothing is known of it: such an item is never answered. half_life: events after which an
    event counts half; None for all alike.
    """

    kind: ClassVar[str] = "content"

    def __init__(
        self, name: str, terms: Jagged, values: npt.NDArray[np.float32], num_terms: int, *, window: int,
        half_life: float | None,
    ) -> None:  # fmt: skip
        assert len(terms.values) == len(values)
        self.name, self.terms, self.values, self.num_terms = name, terms, values, num_terms
        self.num_items = len(terms)
        self.window, self.half_life = window, half_life
        self._weights_L = np.ones(window) if half_life is None else 0.5 ** (np.arange(window) / half_life)
        order_T = np.argsort(terms.values, kind="stable")
        items = Jagged.from_lengths(
            terms.row_of()[order_T].astype(np.int32), np.bincount(terms.values, minlength=num_terms)
        )
        self._vectors = (terms.offsets, terms.values, values, items.offsets, items.values, values[order_T])
        self._scratch = threading.local()

    def search(self, queries: Queries) -> Hits:
        hits = Hits.none(len(queries), queries.k)
        exclude = Jagged.empty(0) if queries.exclude is None else queries.exclude
        allowed_N = np.empty(0, np.bool_) if queries.allowed is None else queries.allowed
        search_profiles(
            queries.histories.offsets, queries.histories.values, self._weights_L, *self._vectors, exclude.offsets,
            exclude.values, allowed_N, *self._sums(), hits.items_BK, hits.scores_BK,
        )  # fmt: skip
        return hits

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        scores_T = np.empty(len(items.values), np.float32)
        score_profiles(
            queries.histories.offsets, queries.histories.values, self._weights_L, *self._vectors, items.offsets,
            items.values, *self._sums(), scores_T,
        )  # fmt: skip
        return scores_T

    def _sums(self) -> tuple[Any, Any, Any, Any]:
        """Scratch of this thread for terms and items: sums, zero between calls, and what was touched."""
        if not hasattr(self._scratch, "arrays"):
            profile_F, sums_N = np.zeros(self.num_terms), np.zeros(self.num_items)
            terms_F, touched_N = (np.empty(len(sums), np.int32) for sums in (profile_F, sums_N))
            self._scratch.arrays = (profile_F, terms_F, sums_N, touched_N)
        arrays: tuple[Any, Any, Any, Any] = self._scratch.arrays
        return arrays

    def config(self) -> dict[str, Any]:
        return {"num_terms": self.num_terms, "window": self.window, "half_life": self.half_life}

    def parts(self) -> Parts:
        return {"content": {"offsets": self.terms.offsets, "terms": self.terms.values, "values": self.values}}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        try:
            offsets, terms, values = (parts["content"][key] for key in ("offsets", "terms", "values"))
            num_terms, window, half_life = (config[key] for key in ("num_terms", "window", "half_life"))
            _check(offsets, terms, values, num_terms)
            if type(window) is not int or not 0 < window <= 1 << 20:
                raise ValueError(f"window {window!r}")
            if half_life is not None and not half_life > 0:
                raise ValueError(f"half_life {half_life!r}")
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(f"the source {name!r} is broken ({error}): make the bundle again") from error
        return cls(name, Jagged(terms, offsets), values, num_terms, window=window, half_life=half_life)


def _check(offsets: npt.NDArray[Any], terms: npt.NDArray[Any], values: npt.NDArray[Any], num_terms: Any) -> None:
    """ValueError unless the compiled loops can trust the arrays not to point outside."""
    kinds = [(array.dtype.str, array.ndim) for array in (offsets, terms, values)]
    if kinds != [("<i8", 1), ("<i4", 1), ("<f4", 1)]:
        raise ValueError("arrays of other types")
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(terms) or (np.diff(offsets) < 0).any():
        raise ValueError("offsets do not cover the terms")
    if len(values) != len(terms) or not np.isfinite(values).all():
        raise ValueError("values do not fit the terms")
    if type(num_terms) is not int or not 0 <= num_terms <= (1 << 16) + 8 * len(terms):
        raise ValueError(f"num_terms {num_terms!r}")
    if len(terms) and not (terms.min() >= 0 and terms.max() < num_terms):
        raise ValueError("a term is out of range")
