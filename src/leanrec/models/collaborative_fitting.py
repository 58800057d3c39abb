"""One fit of a collaborative model: search on validation, refit, and the Recommender of the result."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrec.core.config import to_dict
from leanrec.core.jagged import Jagged
from leanrec.data.cases import Cases, distinct
from leanrec.data.dataset import Dataset
from leanrec.evaluation.metrics import parse_metric, per_user
from leanrec.features.items import ItemAttributes
from leanrec.index.exact import ExactIndex
from leanrec.models.base import FitOptions
from leanrec.models.popular import popular_fallback
from leanrec.models.stages import Stages
from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.training.checkpoints import Progress
from leanrec.training.pairs import PairTask
from leanrec.training.tracking import Tracker
from leanrec.training.trainer import Schedule

if TYPE_CHECKING:
    from leanrec.models.collaborative import CollaborativeConfig, CollaborativeModel

__all__ = ["DEFAULTS_VERSION", "CollaborativeFitting", "from_spectrum", "judges"]

DEFAULTS_VERSION = 3
_JUDGES = 4000
"""Users that tune who are asked at each validation, evenly spread: all of a small data set, so that an epoch of a large
one is not dwarfed by its validation."""


def from_spectrum(config: CollaborativeConfig) -> bool:
    """Whether vectors start from leading singular vectors, which answer well already, and not from noise."""
    return getattr(config, "start", "noise") == "spectral"


def judges(data: Dataset) -> Cases:
    """The users that validation asks about."""
    cases = data.cases("valid", users="tune")
    rows = np.unique(np.linspace(0, len(cases) - 1, _JUDGES).astype(np.int64)) if len(cases) else np.empty(0, np.int64)
    return Cases(cases.users[rows], cases.histories.take(rows), cases.targets.take(rows))


class CollaborativeFitting:
    """The number of epochs from validation, then, when asked, the refit."""

    def __init__(
        self, model: CollaborativeModel[Any], config: CollaborativeConfig, data: Dataset, options: FitOptions
    ) -> None:
        self.model, self.name, self.config, self.data, self.options = model, model.name, config, data, options
        self.stages = Stages(self.name, config, data, options)
        self.cases = judges(data)
        self._once: dict[bool, Jagged] = {}
        self.attributes = None if data.attributes is None else ItemAttributes.from_frame(data.attributes)

    def run(self, tracker: Tracker) -> Recommender:
        config, stages = self.config, self.stages
        progress = stages.stored("search")
        if progress.stage == "search":
            assert config.patience is not None and config.validate_every is not None, "resolved"
            schedule = stages.search(
                config.epochs, config.patience, config.validate_every, judge_start=from_spectrum(config)
            )
            task = self._task(refit=False)
            progress = self._train(task, schedule, progress, tracker, refit=False)
            if not self.options.refit:
                return self.recommender(task, progress)
            progress = stages.after(progress, "refit")
        schedule = stages.refit(progress)
        task = self._task(refit=True)
        return self.recommender(task, self._train(task, schedule, progress, tracker, refit=True))

    def _task(self, *, refit: bool) -> PairTask[Any]:
        train = self._interactions(refit)
        return self.model.task(self.config, train, len(self.data.items), self.options.seed)

    def _train(
        self, task: PairTask[Any], schedule: Schedule, progress: Progress, tracker: Tracker, *, refit: bool
    ) -> Progress:
        cases, metric = self.cases, parse_metric(self.options.metric)

        def score(recommender: Recommender) -> float:
            hits, _ = recommender.rank(cases.histories, metric.k, users=cases.users)
            return float(per_user(hits.items_BK, cases.targets, [metric])[str(metric)].mean())

        train = self._interactions(refit)
        batches = self.model.batches(self.config, train, len(self.data.items), self.options.seed)
        task.follow(self.config.schedule, self.config.epochs * batches.steps)
        trainer = self.stages.trainer(
            task, batches, schedule, progress, tracker, recommender=partial(self.recommender, task),
            score=score if len(cases) and not refit else None,
        )  # fmt: skip
        return trainer.run()

    def _interactions(self, refit: bool) -> Jagged:
        """Who has what, once."""
        if refit not in self._once:
            self._once[refit] = distinct(self.data.train(refit))
        return self._once[refit]

    def recommender(self, task: PairTask[Any], progress: Progress) -> Recommender:
        """The task as it stands, ready to answer."""
        refit = progress.stage == "refit"
        train = self._interactions(refit)
        served = self.model.served(self.config, task, train)
        users_UD = np.where((train.lengths > 0)[:, None], served.users_UD, np.float32(0))
        items_ND = np.array(served.items_ND)
        engine = FactorsEngine(
            FactorsConfig(fold="mean", power=served.power),
            {"users": users_UD, "inputs": np.array(served.inputs_ND)},
            items_ND,
        )
        return Recommender(
            EmbeddingSource(self.name, engine, ExactIndex.build(items_ND)),
            self.data.items,
            users=self.data.users,
            repeats=self.data.protocol.repeats,
            fallback=popular_fallback(self.data, refit=refit),
            attributes=self.attributes,
            card={
                "model": self.name, "config": to_dict(self.config), "defaults": DEFAULTS_VERSION,
                "seed": self.options.seed, "epochs": progress.epoch, "best_epoch": progress.best_epoch,
                "validation": progress.scores, "refit": refit,
            },
            lineage={"dataset": self.data.fingerprint, "name": self.data.name},
        )  # fmt: skip
