"""How far a changed recommender is from the one it came from, on users that tune: what steps choose by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.compression.base import Work
from leanrec.compression.encoder import in_rows
from leanrec.core.errors import ConfigError, InputError
from leanrec.core.jagged import Jagged
from leanrec.evaluation.metrics import Metric, parse_metric, per_user
from leanrec.runtime.recommender import Recommender

__all__ = ["Agreement"]


class Agreement:
    """Losses against one original: 1 - the share of its answers that are kept (`overlap@10`), or the share of a metric
    that is lost on validation events (`ndcg@10` and the like; below 0 where it became better).

    users: how many of those that tune are asked, drawn by the seed of the work.
    """

    def __init__(self, original: Recommender, work: Work, metric: str = "overlap@10", users: int = 1000) -> None:
        name, _, depth = metric.partition("@")
        self.metric: Metric | None = None
        if name == "overlap":
            if not depth.isdecimal() or not int(depth):
                raise ConfigError(f"metric {metric!r} does not say the length of the list: write overlap@10")
            self.k = int(depth)
            known = in_rows(original, work.data, work.data.known("valid"))
            rows = np.flatnonzero((known.lengths > 0) & ~work.data.certify)
            self.histories, self.targets = known.take(self._drawn(rows, users, work.seed)), Jagged.empty(0)
        else:
            self.metric = parse_metric(metric)
            self.k = self.metric.k
            cases = work.data.cases("valid", "tune")
            histories, targets = (in_rows(original, work.data, part) for part in (cases.histories, cases.targets))
            at = self._drawn(np.flatnonzero((histories.lengths > 0) & (targets.lengths > 0)), users, work.seed)
            self.histories, self.targets = histories.take(at), targets.take(at)
        if not len(self.histories):
            raise InputError(f"{work.data.name} has no users that tune to judge {metric} on: prepare it with some")
        self._original = self._asked(original)

    @staticmethod
    def _drawn(rows: npt.NDArray[Any], users: int, seed: int) -> npt.NDArray[Any]:
        return np.sort(np.random.default_rng(seed).permutation(rows)[:users])

    def _asked(self, model: Recommender) -> npt.NDArray[Any]:
        parts = [model.rank(self.histories.slice(at, at + 256), self.k)[0].items_BK
                 for at in range(0, len(self.histories), 256)]  # fmt: skip
        return np.concatenate(parts)

    def score(self, model: Recommender) -> float:
        """The share of answers kept, or the metric."""
        return self._score(self._asked(model))

    def loss(self, model: Recommender) -> float:
        """What is lost, a share of what the original has."""
        before = self._score(self._original)
        return 1 - self.score(model) / before if before else 0.0

    def _score(self, items_BK: npt.NDArray[Any]) -> float:
        if self.metric is not None:
            return float(per_user(items_BK, self.targets, [self.metric])[str(self.metric)].mean())
        same_BKK = (items_BK[:, :, None] == self._original[:, None, :]) & (self._original >= 0)[:, None, :]
        return float(same_BKK.any(axis=1).sum() / max(1, (self._original >= 0).sum()))
