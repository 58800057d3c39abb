"""Click networks: a plan over embedded fields, trained by `training.clicks`. A model is a config and its plan."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeVar

import numpy as np

from leanrec.core.errors import ConfigError
from leanrec.core.space import Choice, Dimension, Range
from leanrec.features.batch import Layout
from leanrec.models.scoring import Learned, Learning, ScoringModel
from leanrec.nn.ctr import Step, step
from leanrec.training.clicks import ClickBatches, ClickOptions, ClickTask
from leanrec.training.judging import judge
from leanrec.training.labelled import Labelled
from leanrec.training.tracking.base import Everywhere
from leanrec.training.trainer import Schedule, Trainer

__all__ = ["NetworkConfig", "NetworkModel"]

_UNJUDGED = 2
"""Epochs at most where no validation row says when to stop."""


class NetworkConfig(ClickOptions, frozen=True, kw_only=True):
    """A network over fields of one width."""

    dim: int = 16
    """Width of a field's vector."""
    widths: tuple[int, ...] = (128, 64)
    """Hidden layers."""
    dropout: float = 0.2
    gates: bool = False
    """A learned gate for each field; how open they end is in the card, and `gate_l1` closes the idle ones."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "dim": Choice((8, 16, 32)),
        "lr": Range(1e-4, 1e-2, log=True),
        "dropout": Range(0.0, 0.6),
        "l2": Range(1e-7, 1e-3, log=True),
        "mask": Range(0.0, 0.2),
    }

    def __post_init__(self) -> None:
        for key, least in (("dim", 1), ("batch", 1), ("epochs", 1), ("looks", 1), ("patience", 1), ("history", 0)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} must be at least {least}, not {getattr(self, key)}")
        for key in ("dropout", "mask"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 0 and below 1, not {getattr(self, key)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, not {self.lr}")


C = TypeVar("C", bound=NetworkConfig)


class NetworkModel(ScoringModel[C]):
    """A subclass says `plan`; multiple: it learns all labels and not just the main one."""

    multiple: ClassVar[bool] = False

    @abstractmethod
    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        """From `fields`, `flat`, ... (see nn.ctr.plan) to the logits, one for each task."""

    def learn(self, train: Labelled, valid: Labelled, learning: Learning) -> Learned:
        config, layout = self.config, train.batch.layout
        if not (layout.categories or layout.numbers or layout.lists):
            raise ConfigError(f"{self.name} has no features to look at: leave at least one column in")
        tasks = train.labels_BT.shape[1] if self.multiple else 1
        plan = list(self.plan(layout, tasks))
        if config.gates:
            plan = gated(plan)
        task = ClickTask(plan, layout, config.dim, config, learning.seed)
        looks = self._train(task, train.main(tasks), valid.main(tasks), learning)
        engine = task.engine()
        facts: dict[str, object] = {"epochs": looks / config.looks}
        gates = engine.weights.get("gated.gate")
        if gates is not None:
            names = (*layout.categories, *layout.lists, *layout.numbers)
            order = np.argsort(-np.abs(gates), kind="stable")
            facts["gates"] = {names[place]: round(float(abs(gates[place])), 4) for place in order}
        return Learned(engine, looks, facts=facts)

    def _train(self, task: ClickTask, train: Labelled, valid: Labelled, learning: Learning) -> int:
        """Train until validation stops getting better, or as long as told; how many looks. It ends as the best."""
        config, judged = self.config, len(valid) > 0 and learning.length is None
        most = (config.epochs if judged else min(config.epochs, _UNJUDGED)) * config.looks

        def validate() -> float:
            score = judge(task.engine(), valid, config.watch)
            if learning.on_score is not None:
                learning.on_score(trainer.progress.epoch, score)
            return score

        schedule = Schedule(
            epochs=most if learning.length is None else learning.length, patience=config.patience,
            save_every=learning.save_every, deadline=learning.deadline, unit="look",
        )  # fmt: skip
        trainer = Trainer(
            task, ClickBatches(train, config, learning.seed), schedule, learning.progress(),
            validate=validate if judged else None, folder=learning.folder, tracker=Everywhere(),
        )  # fmt: skip
        if learning.resume:
            trainer.resume()
        done = trainer.run()
        return done.best_epoch if judged else done.epoch


def gated(plan: Sequence[Step]) -> list[Step]:
    """The plan with every use of the fields behind a gate."""
    behind = {"fields": "gated", "flat": "gated_flat"}
    rest = [Step(one.name, one.op, tuple(behind.get(name, name) for name in one.inputs), one.options) for one in plan]
    return [step("gated", "gates", "fields"), step("gated_flat", "concat", "gated"), *rest]
