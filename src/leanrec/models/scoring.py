"""What models of labelled rows have in common: rows, features, learning, calibration, and the Recommender made of it.

A model says how it learns (`learn`); the rest is the same for a logistic regression and for a deep network.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from leanrec.core.config import build, to_dict
from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.data.dataset import Dataset
from leanrec.data.examples.base import Examples
from leanrec.data.examples.events import IMPLICIT, examples_of
from leanrec.data.scratch import Scratch
from leanrec.evaluation.binary import auc, calibration_error, log_loss
from leanrec.features.space import FeatureConfig, FeatureSpace
from leanrec.features.tables import FeatureTables
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.runtime.base import ScoringEngine
from leanrec.runtime.calibration import Calibrator, fit_calibrator
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.scorer import ScoringSource
from leanrec.training.checkpoints import Progress, stored_progress
from leanrec.training.judging import raw_scores
from leanrec.training.labelled import Labelled, RowsConfig, balanced, encode

__all__ = ["Learned", "Learning", "ScoringModel", "default_label"]

C = TypeVar("C", bound=RowsConfig)

DEFAULTS_VERSION = 1
_SEARCH_SHARE = 0.45
"""Of a time limit, where a refit follows that is to take as long as the search found best."""
IMPRESSION = "impression"
"""The one item of a model whose rows are not about items of a catalogue: what is asked about is all in the context."""


@dataclass(frozen=True, slots=True)
class Learning:
    """How to learn, beside the rows. length: how long (epochs, passes, trees: as `Learned.length` said); None finds
    out on validation. deadline: `time.monotonic()` to end by. on_score: told each validation score. folder: where a
    model that learns in steps keeps checkpoints, `save_every` seconds apart, and goes on from those of the same
    `fingerprint` when it is to `resume`.
    """

    seed: int
    deadline: float | None = None
    length: int | None = None
    on_score: Callable[[int, float], None] | None = None
    folder: Path | None = None
    resume: bool = False
    save_every: float = 60.0
    fingerprint: str = ""

    def progress(self) -> Progress:
        """Where what is resumed stands, else the start."""
        stored = stored_progress(self.folder if self.resume else None, self.fingerprint)
        return stored or Progress(fingerprint=self.fingerprint)


@dataclass(frozen=True, slots=True)
class Learned:
    """engine: what answers. length: how long was best. link: what a raw score is. facts: for the card. state: what
    `update` goes on from, where the model can.
    """

    engine: ScoringEngine
    length: int = 0
    link: Literal["sigmoid", "identity"] = "sigmoid"
    facts: Mapping[str, Any] = field(default_factory=dict)
    state: Any = None


class ScoringModel(Model[C]):
    """A model of labelled rows. A subclass says `learn`; `history`: whether it looks at what came before a row."""

    history: ClassVar[bool] = False
    served: ClassVar[int] = 0
    """Which of several labels is answered for."""

    @abstractmethod
    def learn(self, train: Labelled, valid: Labelled, learning: Learning) -> Learned:
        """Learn from `train`, decide by `valid` (which may be empty, or is when the length is given)."""

    def labels(self, data: Dataset) -> str | Mapping[str, str]:
        """What is predicted: one condition, or names with a condition each."""
        return default_label(data) if self.config.label is None else self.config.label

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        label = self.labels(data)
        if self.config.label is None and isinstance(label, str):
            say(f"{self.name} (defaults {DEFAULTS_VERSION}): label={label!r}")

        def examples(refit: bool) -> Examples:
            config = self.config
            return examples_of(
                data, label, negatives=config.negatives, history=config.history, seed=options.seed, refit=refit
            )

        source, facts, state = self.fit_source(examples, len(data.items), options)
        recommender = assemble(self, source, data, options, chosen={"label": label})
        recommender.card |= facts
        recommender.learned = state
        return recommender

    def fit_examples(self, examples: Examples, options: FitOptions) -> Recommender:
        """A Recommender for rows as they were logged. Its one item is "impression": ask for its score in a context."""
        if options.refit:
            raise InputError(f"{self.name} cannot be refitted on logged rows: leave --refit out")
        source, facts, _ = self.fit_source(lambda _: examples, 1, options)
        card = {"model": self.name, "config": to_dict(self.config), "seed": options.seed, "refit": False, **facts}
        lineage = {"dataset": examples.fingerprint, "name": examples.name}
        users = Vocabulary([])
        items = Vocabulary([IMPRESSION])
        return Recommender(source, items, repeats=True, users=users, card=card, lineage=lineage)

    def fit_source(
        self, examples: Callable[[bool], Examples], num_items: int, options: FitOptions
    ) -> tuple[ScoringSource, dict[str, Any], Any]:
        """The fitted source, facts for its card, and what `update` goes on from.

        examples: the rows, given whether validation rows train too.
        """
        rows = examples(False)
        searching = self._learning(options, "search", rows)
        with Scratch(options.run) as scratch:
            space, train, valid = self._encoded(rows, scratch)
            say(f"{rows}: fields {', '.join((*space.layout.categories, *space.layout.lists, *space.layout.numbers))}")
            train, shift = balanced(train, self.config.balance, options.seed, scratch)
            learned = self.learn(train, valid, searching)
            shift += math.log(rows.rate)
            calibrator = self._calibrator(learned, valid, shift)
            facts = {"task": "ctr", "labels": list(rows.labels), "calibration": calibrator.way, **learned.facts}
            facts |= _judged(learned.engine, calibrator, valid, self.served)
            again = options.refit and len(valid) > 0
        if again:
            del train, valid
            rows = examples(True)
            with Scratch(options.run) as scratch:
                space, train, _ = self._encoded(rows, scratch)
                train, _ = balanced(train, self.config.balance, options.seed, scratch)
                none = train.take(np.arange(0))
                learned = self.learn(train, none, self._learning(options, "refit", rows, learned.length))
        tables = FeatureTables.build(space, rows)
        source = ScoringSource(self.name, num_items, tables, learned.engine, calibrator, task=self.served)
        return source, facts, learned.state

    def _learning(
        self, options: FitOptions, stage: Literal["search", "refit"], rows: Examples, length: int | None = None
    ) -> Learning:
        """One of two stages. A search that a refit had already followed is over: it gets no more time."""
        kept = options.run / "checkpoints" if options.run else None
        deadline = None
        if stage == "search":
            if options.time_limit is not None:
                deadline = time.monotonic() + options.time_limit * (_SEARCH_SHARE if options.refit else 1.0)
            if options.resume and kept is not None and (kept / "refit" / "last.safetensors").exists():
                deadline = 0.0
        told = [self.name, to_dict(self.config), options.seed, options.refit, rows.fingerprint, stage, length]
        return Learning(
            options.seed, deadline, length, options.on_score if stage == "search" else None,
            folder=kept / stage if kept else None, resume=options.resume, save_every=options.save_every,
            fingerprint=hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(),
        )  # fmt: skip

    def _encoded(self, rows: Examples, scratch: Scratch) -> tuple[FeatureSpace, Labelled, Labelled]:
        if not rows.rows("train"):
            raise InputError(f"{rows.name} has no row with a label to learn from: choose another label")
        features = {**self.config.features, "history": self.config.history if self.history else 0}
        space = FeatureSpace.fit(rows, build(FeatureConfig, features, where=f"{self.name}: features"))
        train = encode(space, rows, "train", scratch)
        if train.labels_BT[:, 0].min() == train.labels_BT[:, 0].max():
            raise InputError(f"all rows of {rows.name} have the same label {rows.label!r}: choose another label")
        return space, train, encode(space, rows, "valid", scratch)

    def _calibrator(self, learned: Learned, valid: Labelled, shift: float) -> Calibrator:
        if not len(valid):
            return Calibrator(link=learned.link, shift=shift)
        raw = raw_scores(learned.engine, valid.batch, self.served)
        labels = valid.labels_BT[:, self.served]
        return fit_calibrator(self.config.calibration, raw, labels, link=learned.link, shift=shift)


def default_label(data: Dataset) -> str:
    """`value>=` the median of the training events where values differ, else implicit."""
    values = data.train_values()
    known = np.empty(0) if values is None else values.values[~np.isnan(values.values)]
    if not len(known) or known.min() == known.max():
        return IMPLICIT
    middle = float(np.median(known))
    least = middle if middle > known.min() else float(known[known > middle].min())
    return f"value>={least:g}"


def _judged(engine: ScoringEngine, calibrator: Calibrator, valid: Labelled, task: int) -> dict[str, Any]:
    if not len(valid):
        return {}
    labels = valid.labels_BT[:, task]
    said = calibrator(raw_scores(engine, valid.batch, task))
    found = {"auc": auc(labels, said), "log_loss": log_loss(labels, said), "ece": calibration_error(labels, said)}
    say("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
    return {"validation": {name: value for name, value in found.items() if math.isfinite(value)}}
