"""How a hybrid's merge is fitted: on validation events of users that tune, never on those that certify or on test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from leanrec.core.console import say
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.data.dataset import Dataset
from leanrec.evaluation.metrics import Metric, per_user
from leanrec.runtime.merging import Evidence, Merge
from leanrec.runtime.merging.features import ItemFacts, describe
from leanrec.runtime.merging.fixed import Weighted
from leanrec.runtime.merging.gather import ranked
from leanrec.runtime.merging.learned import LinearRanker, Ranker
from leanrec.runtime.sources.hybrid import HybridSource
from leanrec.training.ranking import RankingData, fit_linear, fit_trees

__all__ = ["Judged", "choose_ranker", "choose_weights", "gather_judged"]

_JUDGES = 3000
_BLOCK = 256
_GRID = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_FOLDS = 3
_PENALTIES = (0.1, 1.0, 10.0)
_ROUNDS = (50, 100)


@dataclass(frozen=True)
class Judged:
    """Evidence about the candidates of users with known right answers, in blocks. targets: Q rows, as the blocks go."""

    blocks: list[Evidence]
    targets: Jagged

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def candidates(self) -> Jagged:
        """Those of all blocks."""
        return Jagged.from_lengths(
            np.concatenate([block.candidates.values for block in self.blocks]),
            np.concatenate([block.candidates.lengths for block in self.blocks]),
        )

    def judge(self, scores_T: npt.NDArray[np.float32], metric: Metric) -> float:
        """The metric's mean over the judges when the candidates have these scores."""
        lists = ranked(self.candidates, scores_T, np.zeros(len(scores_T), np.int8), metric.k)
        return float(per_user(lists.items_BK, self.targets, [metric])[str(metric)].mean())

    def scores(self, merge: Merge) -> npt.NDArray[np.float32]:
        """(T,) the candidates' scores by a merge."""
        return np.concatenate([merge.score(block) for block in self.blocks])


def gather_judged(source: HybridSource, data: Dataset) -> Judged:
    """What the sources say of the users that tune, up to 3,000 of those with a history."""
    cases = data.cases("valid", "tune")
    rows = np.flatnonzero(cases.histories.lengths)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_JUDGES, len(rows))).astype(np.int64))]
    times = data.known_times("valid") if source.timed else None
    blocks = []
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        histories, users = cases.histories.take(some), cases.users[some]
        queries = Queries(
            histories, source.depth, None if source.repeats else histories,
            times=None if times is None else times.take(users), users=users if source.personal else None,
        )  # fmt: skip
        blocks.append(source.gather(queries)[0])
    return Judged(blocks, cases.targets.take(rows))


def choose_weights(judged: Judged, metric: Metric) -> npt.NDArray[np.float64]:
    """(S,) weights of the scaled scores with the best metric, by coordinate search from equal ones; they sum to 1."""
    sources = judged.blocks[0].ranks_TS.shape[1]
    weights_S = np.ones(sources)
    best = judged.judge(judged.scores(Weighted(weights_S)), metric)
    for _ in range(3):
        before = best
        for place, value in product(range(sources), _GRID):
            tried_S = weights_S.copy()
            tried_S[place] = value
            if tried_S.sum() <= 0:
                continue
            found = judged.judge(judged.scores(Weighted(tried_S)), metric)
            if found > best:
                best, weights_S = found, tried_S
        if best == before:
            break
    return np.asarray(weights_S / weights_S.sum())


def choose_ranker(
    judged: Judged, facts: ItemFacts, metric: Metric, kind: str | None
) -> tuple[Ranker, dict[str, float]]:
    """The ranker and setting that rank held-out thirds of the judges best, fitted to all of them.

    kind: only rankers of that kind. Also the metric of each that was tried, on the held-out thirds.
    """
    data = _ranking_data(judged, facts)
    held_out: dict[str, npt.NDArray[np.float32]] = {}
    for fold in range(_FOLDS):
        inside_Q = np.arange(len(judged)) % _FOLDS != fold
        at, _ = data.items.positions(np.flatnonzero(~inside_Q))
        for name, ranker in _fits(data.take(np.flatnonzero(inside_Q)), kind):
            scores_T = held_out.setdefault(name, np.zeros(len(data.relevant_T), np.float32))
            scores_T[at] = ranker.score(data.features_TF[at])
    tried = {name: judged.judge(scores_T, metric) for name, scores_T in held_out.items()}
    say("ranker, on held-out thirds: " + ", ".join(f"{name} {score:.4f}" for name, score in tried.items()))
    chosen = max(tried, key=lambda name: tried[name])
    return dict(_fits(data, kind))[chosen], tried


def _fits(data: RankingData, kind: str | None) -> Iterator[tuple[str, Ranker]]:
    """Every ranker that is tried, by what it is called."""
    if kind in (None, "linear"):
        for penalty in _PENALTIES:
            yield f"linear l2={penalty:g}", LinearRanker(fit_linear(data, penalty))
    if kind in (None, "trees"):
        trees = fit_trees(data, rounds=max(_ROUNDS))
        for rounds in _ROUNDS:
            yield f"trees rounds={rounds}", trees.first(rounds)


def _ranking_data(judged: Judged, facts: ItemFacts) -> RankingData:
    items = judged.candidates
    features_TF = np.concatenate([describe(block, facts) for block in judged.blocks])
    width = int(max(items.values.max(initial=0), judged.targets.values.max(initial=0))) + 1
    right = judged.targets.row_of() * width + judged.targets.values
    return RankingData(items, features_TF, np.isin(items.row_of() * width + items.values, right))
