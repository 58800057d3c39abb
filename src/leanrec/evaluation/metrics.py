"""What a list is worth: per-user metrics from hits and targets, and what all lists together do to the catalogue.

Full ranking only: a list is the head of a ranking of the whole catalogue. A user's value is computed from the first k
answers (an answer of -1 is an empty place) and the user's distinct relevant items; the mean is over users.

| name      | per user                                                                              |
|-----------|---------------------------------------------------------------------------------------|
| recall    | hits / relevant                                                                       |
| hit_rate  | 1 if anything was hit                                                                 |
| precision | hits / k                                                                              |
| ndcg      | sum of 1 / log2(1 + rank) over hits, over the same sum for ranks 1..min(k, relevant)  |
| mrr       | 1 / rank of the first hit, 0 without one                                              |
| map       | sum of precision@rank over hits, over min(k, relevant)                                |

| name      | all lists of a model                                                                  |
|-----------|---------------------------------------------------------------------------------------|
| coverage  | share of the catalogue that was recommended at all                                    |
| novelty   | mean of -log2 p(item) in bits, p the item's share of training events                  |
| arp       | mean training events of a recommended item                                            |
| gini      | inequality of exposure over the catalogue: 0 all items alike, towards 1 one item only |

Sources: Järvelin & Kekäläinen 2002 (ndcg), Zhou et al. 2010 (novelty), Abdollahpouri et al. 2017 (arp).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.registry import nearest

__all__ = ["CATALOGUE", "PER_USER", "Exposure", "Metric", "find_hits", "parse_metric", "per_user"]

Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def find_hits(items_BK: npt.NDArray[np.integer[Any]], targets: Jagged) -> Flags:
    """(B, K) whether each answer is one of its user's targets. Answers of -1 never are.

    targets: B rows of distinct item rows.
    """
    assert len(items_BK) == len(targets)
    if not len(targets.values) or not items_BK.size:
        return np.zeros(items_BK.shape, np.bool_)
    width = int(max(items_BK.max(), targets.values.max())) + 2
    keys_T = np.sort(targets.row_of() * width + targets.values)
    asked_BK = np.arange(len(items_BK), dtype=np.int64)[:, None] * width + items_BK
    at_BK = np.minimum(np.searchsorted(keys_T, asked_BK), len(keys_T) - 1)
    found_BK: Flags = (keys_T[at_BK] == asked_BK) & (items_BK >= 0)
    return found_BK


def _recall(hits_BK: Flags, relevant_B: Counts, k: int) -> Values:
    return np.asarray(hits_BK.sum(axis=1) / relevant_B)


def _hit_rate(hits_BK: Flags, relevant_B: Counts, k: int) -> Values:
    return np.asarray(hits_BK.any(axis=1), dtype=np.float64)


def _precision(hits_BK: Flags, relevant_B: Counts, k: int) -> Values:
    return np.asarray(hits_BK.sum(axis=1) / k)


def _ndcg(hits_BK: Flags, relevant_B: Counts, k: int) -> Values:
    # Rounded, because logarithms differ in the last bit between processors and certificates are compared to the last.
    gains = np.round(1.0 / np.log2(np.arange(2, k + 2)), 12)
    ideal = np.cumsum(gains)
    gained_B = (hits_BK * gains[: hits_BK.shape[1]]).sum(axis=1)
    return np.asarray(gained_B / ideal[np.minimum(relevant_B, k) - 1])


def _mrr(hits_BK: Flags, relevant_B: Counts, k: int) -> Values:
    return np.asarray(hits_BK.any(axis=1) / (1.0 + hits_BK.argmax(axis=1)))


def _map(hits_BK: Flags, relevant_B: Counts, k: int) -> Values:
    precision_BK = np.cumsum(hits_BK, axis=1) / np.arange(1, hits_BK.shape[1] + 1)
    return np.asarray((hits_BK * precision_BK).sum(axis=1) / np.minimum(relevant_B, k))


PER_USER: dict[str, Callable[[Flags, Counts, int], Values]] = {
    "recall": _recall,
    "hit_rate": _hit_rate,
    "precision": _precision,
    "ndcg": _ndcg,
    "mrr": _mrr,
    "map": _map,
}
"""Every per-user metric, a value in [0, 1], more is better."""

CATALOGUE = ("coverage", "novelty", "arp", "gini")
"""Every metric of all lists together."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric at one length of list, written `ndcg@10`."""

    name: str
    k: int

    @property
    def is_per_user(self) -> bool:
        return self.name in PER_USER

    def __str__(self) -> str:
        return f"{self.name}@{self.k}"


def parse_metric(text: str) -> Metric:
    """`"ndcg@10"` to a Metric; anything else is a ConfigError that names what there is, and the nearest."""
    known = [*PER_USER, *CATALOGUE]
    name, _, depth = text.partition("@")
    if name not in known:
        raise ConfigError(f"unknown metric {text!r}{nearest(name, known)}; there are: {', '.join(known)}, each with @k")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", depth):
        raise ConfigError(f"metric {text!r} does not say the length of the list: write {name}@10")
    return Metric(name, int(depth))


def per_user(items_BK: npt.NDArray[np.integer[Any]], targets: Jagged, metrics: Iterable[Metric]) -> dict[str, Values]:
    """Metric -> (B,) the value of each user.

    items_BK: (B, K) item rows, best first, -1 where there are no more; K smaller than a metric's k means that the rest
    of the list is empty. targets: B rows of distinct relevant item rows, none empty.
    """
    relevant_B = targets.lengths
    assert relevant_B.all(), "users without targets are left out before"
    hits_BK = find_hits(items_BK, targets)
    if not hits_BK.shape[1]:
        hits_BK = np.zeros((len(hits_BK), 1), np.bool_)
    return {str(m): PER_USER[m.name](hits_BK[:, : m.k], relevant_B, m.k) for m in metrics if m.is_per_user}


class Exposure:
    """Counts how often each item is recommended in the first k places, block by block; then the catalogue metrics.

    popularity_N: (N,) training events of each item. An item without any counts as if it had one in `novelty`, whose
    mean, like that of `arp`, is over all places filled. alive_N: (N,) the items that can be recommended at all.
    """

    def __init__(self, popularity_N: npt.NDArray[np.integer[Any]], ks: Sequence[int], alive_N: Flags | None = None):
        self.popularity_N = np.asarray(popularity_N, dtype=np.float64)
        self.alive_N = np.ones(len(popularity_N), np.bool_) if alive_N is None else alive_N
        self.counts: dict[int, Counts] = {k: np.zeros(len(popularity_N), np.int64) for k in ks}

    def add(self, items_BK: npt.NDArray[np.integer[Any]]) -> None:
        for k, counts_N in self.counts.items():
            head = items_BK[:, :k].ravel()
            counts_N += np.bincount(head[head >= 0], minlength=len(counts_N))

    def values(self, metrics: Iterable[Metric]) -> dict[str, float]:
        """Metric -> value, for the catalogue metrics among those asked for; 0 where nothing was recommended."""
        return {str(m): self._value(m) for m in metrics if not m.is_per_user}

    def _value(self, metric: Metric) -> float:
        counts_N = self.counts[metric.k][self.alive_N]
        shown = int(counts_N.sum())
        if not shown:
            return 0.0
        popularity_N = self.popularity_N[self.alive_N]
        if metric.name == "coverage":
            return float(np.count_nonzero(counts_N) / len(counts_N))
        if metric.name == "arp":
            return float(counts_N @ popularity_N / shown)
        if metric.name == "novelty":
            bits_N = -np.log2(np.maximum(popularity_N, 1) / max(self.popularity_N.sum(), 1))
            return float(counts_N @ bits_N / shown)
        rising_N = np.sort(counts_N)
        weights_N = 2 * np.arange(1, len(rising_N) + 1) - len(rising_N) - 1
        return float(weights_N @ rising_N / (len(rising_N) * shown))
