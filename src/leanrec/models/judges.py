"""Settings of models that are not trained in epochs: tried on validation events of users that tune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from leanrec.core.nouns import Queries
from leanrec.data.dataset import Dataset
from leanrec.evaluation.metrics import parse_metric, per_user
from leanrec.runtime.base import Source

__all__ = ["HALF_LIVES", "Judges"]

T = TypeVar("T")

HALF_LIVES = (0.0, 30.0, 10.0, 3.0, 1.0)
"""What is tried for the events after which an event of the history counts half; 0 lets all count alike."""
_JUDGES = 2000


class Judges:
    """At most 2,000 users that tune, evenly drawn, with what they did in the validation part."""

    def __init__(self, data: Dataset, metric: str) -> None:
        cases = data.cases("valid", "tune")
        some = np.unique(np.linspace(0, len(cases) - 1, _JUDGES).astype(np.int64)) if len(cases) else np.empty(0, int)
        self.histories, self.targets = cases.histories.take(some), cases.targets.take(some)
        self.ordered = data.protocol.ordered
        self.metric = parse_metric(metric)
        self.excluded = not data.protocol.repeats
        """Whether what a judge has had is left out."""
        self._exclude = self.histories if self.excluded else None

    def __len__(self) -> int:
        return len(self.histories)

    def score(self, source: Source) -> float:
        """The mean of the metric over all judges."""
        hits = source.search(Queries(self.histories, self.metric.k, self._exclude))
        return float(per_user(hits.items_BK, self.targets, [self.metric])[str(self.metric)].mean())

    def best(self, tried: Sequence[T], source: Callable[[T], Source]) -> T:
        """The one whose source scores best, the earliest of equals; the first when there is nobody to judge."""
        return tried[0] if len(tried) == 1 or not len(self) else max(tried, key=lambda one: self.score(source(one)))

    def half_life(self, source: Callable[[float], Source]) -> float:
        """The best of HALF_LIVES, where the order of events is known."""
        return self.best(HALF_LIVES if self.ordered else HALF_LIVES[:1], source)
