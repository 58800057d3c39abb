"""Weighted sets and their similarity: cosine, TF-IDF, BM25, Jaccard, the same for sets of users and of items.

A *document* is a set of *terms* with counts: an item and the users who had it, or a user and the items they had. With
shared = sum over common terms of the two weights' product, the similarity of two documents is shared over
sqrt(norm * norm) + shrinkage, or for jaccard over norm + norm - shared + shrinkage.

| kind    | weight of a term in a document                                         | norm of a document      |
|---------|------------------------------------------------------------------------|-------------------------|
| cosine  | 1                                                                      | number of terms         |
| jaccard | 1                                                                      | number of terms         |
| tf-idf  | sqrt(count) * idf                                                      | sum of squared weights  |
| bm25    | count * (K1 + 1) / (count + K1 * (1 - B + B * events / mean events)) * idf | 1: it is not normalised |

Asymmetric, for items alone: shared over n_i^asymmetry n_j^(1 - asymmetry) + shrinkage, where i is in the history, n is
the number of terms, and a term that n_t documents hold weighs n_t^(-term_power / 2). Sources: Aiolli 2013 (asymmetric
cosine), Deshpande & Karypis 2004 (users who had much say less).

idf of a term: log(documents) - log(1 + documents that hold it). Sources: Robertson & Zaragoza 2009 (BM25, with K1 1.2
and B .75), Salton & Buckley 1988; definitions as in the library implicit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged

__all__ = ["SIMILARITIES", "Weighting", "asymmetric_norms", "asymmetric_weights", "distinct_counts"]

SIMILARITIES = ("cosine", "tf-idf", "bm25", "jaccard")
_K1, _B = 1.2, 0.75

Weights = npt.NDArray[np.float32]
Norms = npt.NDArray[np.float64]


def distinct_counts(rows: Jagged, width: int) -> tuple[Jagged, npt.NDArray[np.int64]]:
    """Each row's distinct values below `width` by rising value, and beside them how often each stands there."""
    keys_T, counts_T = np.unique(rows.row_of() * width + rows.values, return_counts=True)
    owners_T = keys_T // max(width, 1)
    values_T = (keys_T % max(width, 1)).astype(np.int32)
    return Jagged.from_lengths(values_T, np.bincount(owners_T, minlength=len(rows))), counts_T


@dataclass(frozen=True)
class Weighting:
    """One kind of similarity, with what it has learned of the terms.

    kind: of SIMILARITIES. idf_F: (F,) float32 of each term, ones where the kind has none. mean_events: of a document.
    """

    kind: str
    idf_F: npt.NDArray[np.float32]
    mean_events: float

    @classmethod
    def learn(cls, kind: str, documents: Jagged, counts_T: npt.NDArray[np.int64], num_terms: int) -> Weighting:
        """From all documents: rows of distinct terms, and the count of each."""
        assert kind in SIMILARITIES
        idf_F = np.ones(num_terms, np.float32)
        if kind in ("tf-idf", "bm25"):
            held_F = np.bincount(documents.values, minlength=num_terms)
            idf_F = (np.log(max(len(documents), 1)) - np.log1p(held_F)).astype(np.float32)
        return cls(kind, idf_F, float(counts_T.sum() / max(len(documents), 1)))

    @property
    def jaccard(self) -> bool:
        return self.kind == "jaccard"

    def weights(self, documents: Jagged, counts_T: npt.NDArray[np.integer[Any]]) -> tuple[Weights, Norms]:
        """(T,) the weight of each term of each document, and (documents,) their norms."""
        if self.kind in ("cosine", "jaccard"):
            return np.ones(len(counts_T), np.float32), documents.lengths.astype(np.float64)
        idf_T = self.idf_F[documents.values].astype(np.float64)
        if self.kind == "tf-idf":
            weights_T = (np.sqrt(counts_T) * idf_T).astype(np.float32)
            return weights_T, _sums(weights_T.astype(np.float64) ** 2, documents)
        events = _sums(counts_T, documents)
        length_T = 1 - _B + _B * events[documents.row_of()] / (self.mean_events or 1.0)
        weights_T = (counts_T * (_K1 + 1) / (counts_T + _K1 * length_T) * idf_T).astype(np.float32)
        return weights_T, np.ones(len(documents))


def asymmetric_weights(documents: Jagged, num_terms: int, term_power: float) -> Weights:
    """(T,) such that a term held by n documents adds n^-term_power to what two documents share."""
    held_F = np.bincount(documents.values, minlength=num_terms)
    weights_T: Weights = (held_F[documents.values] ** (-term_power / 2)).astype(np.float32)
    return weights_T


def asymmetric_norms(documents: Jagged, asymmetry: float) -> tuple[Norms, Norms]:
    """(documents,) each: the first of i times the second of j has the root n_i^asymmetry n_j^(1 - asymmetry).

    n: the number of terms. With .5 it is the cosine, with 1 the share of i's terms that j holds too.
    """
    sizes = documents.lengths.astype(np.float64)
    return sizes ** (2 * asymmetry), sizes ** (2 - 2 * asymmetry)


def _sums(values_T: npt.NDArray[Any], rows: Jagged) -> Norms:
    sums: Norms = np.bincount(rows.row_of(), weights=values_T, minlength=len(rows)).astype(np.float64)
    return sums
