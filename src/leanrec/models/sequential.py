"""What the sequence transformers share: configuration, adaptive defaults, search, refit, the Recommender."""

from __future__ import annotations

import hashlib
import json
import time
from typing import ClassVar

import msgspec
import numpy as np
import torch

from leanrec.core.config import Config, to_dict
from leanrec.core.console import say
from leanrec.core.errors import ConfigError, InputError
from leanrec.data.dataset import Dataset
from leanrec.evaluation.evaluate import evaluate
from leanrec.features.items import ItemAttributes
from leanrec.index.exact import ExactIndex
from leanrec.models.base import FitOptions, Model
from leanrec.models.popular import popular_fallback
from leanrec.nn.blocks import Transformer
from leanrec.nn.tables.dense import DenseTable
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.training.checkpoints import Progress, load_checkpoint
from leanrec.training.loader import SequenceLoader
from leanrec.training.objectives import OBJECTIVES
from leanrec.training.precision import use_bfloat16
from leanrec.training.task import NextItem
from leanrec.training.tracking import Tracker
from leanrec.training.trainer import Schedule, Trainer

__all__ = ["SequenceConfig", "SequenceModel"]

DEFAULTS_VERSION = 1


class SequenceConfig(Config, frozen=True, kw_only=True):
    """Settings of a sequence transformer. What is None is chosen from the data (rule version 1) and printed."""

    dim: int = 64
    """Width D of item vectors and hidden states."""
    layers: int = 2
    heads: int = 2
    hidden: int | None = None
    """Width of the feed-forward layer; 4 D."""
    max_length: int | None = None
    """Window: the last events that are looked at; covers nine users in ten, 20 to 100."""
    dropout: float = 0.3
    objective: str = "sampled-softmax"
    negatives: int = 512
    """Shared by the predictions of a batch."""
    horizon: int | None = None
    """A prediction is one of the next `horizon` events; as many as a validation user has targets, at most 50."""
    lr: float = 3e-3
    warmup: int | None = None
    """Steps over which the learning rate rises; an epoch's, at most 100."""
    weight_decay: float = 0.0
    clip: float = 0.0
    """Largest norm of the dense gradient; 0 leaves it as it is."""
    batch_tokens: int = 1024
    """Predictions a step."""
    epochs: int | None = None
    """At most; by default as many as make about 20 million predictions, 3 to 300."""
    patience: int | None = None
    """Epochs without a better validation score before training stops; a tenth of the epochs, at least 3."""
    precision: str = "auto"
    """`float32`, `bfloat16` (autocast) or `auto`: bfloat16 where the processor has it and the width makes it pay."""
    table_optimiser: str = "lazy-adam"


class SequenceModel(Model[SequenceConfig]):
    """A causal transformer that predicts what comes next at every position of a history; subclasses name its block."""

    Config = SequenceConfig
    block: ClassVar[str]

    def resolve(self, data: Dataset) -> SequenceConfig:
        """The configuration with every None replaced from the data's size and shape."""
        config = self.config
        lengths = data.train().lengths
        lengths = lengths[lengths >= 2]
        if len(lengths) == 0:
            raise InputError("no user has two training events, so there is no next item to learn: use popular")
        predictions = int((lengths - 1).sum())
        ninth = int(-(-sorted(lengths.tolist())[int(0.9 * (len(lengths) - 1))] // 10) * 10)
        epochs = config.epochs or max(3, min(300, 20_000_000 // predictions))
        filled = msgspec.structs.replace(
            config,
            hidden=config.hidden or 4 * config.dim,
            max_length=config.max_length or max(20, min(100, ninth)),
            epochs=epochs,
            patience=config.patience or max(3, epochs // 10),
            warmup=min(100, predictions // config.batch_tokens) if config.warmup is None else config.warmup,
            negatives=min(config.negatives, len(data.items)),
            horizon=config.horizon or _targets_a_user(data),
            precision="bfloat16" if use_bfloat16(config.precision, config.dim) else "float32",
        )
        if filled.dim % filled.heads:
            raise ConfigError(f"{self.name}: dim={filled.dim} is not a multiple of heads={filled.heads}")
        return filled

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config = self.resolve(data)
        say(f"{self.name} (defaults {DEFAULTS_VERSION}): " + " ".join(f"{k}={v}" for k, v in to_dict(config).items()))
        fitting = _Fitting(self.name, self.block, config, data, options)
        with Tracker(options.run / "tensorboard" if options.run else None) as tracker:
            return fitting.run(tracker)


class _Fitting:
    """One fit: a search for the number of epochs on validation, then, when asked, the refit on train + validation."""

    def __init__(self, name: str, block: str, config: SequenceConfig, data: Dataset, options: FitOptions) -> None:
        self.name, self.block, self.config, self.data, self.options = name, block, config, data, options
        self.fallback = popular_fallback(data)
        self.attributes = None if data.attributes is None else ItemAttributes.from_frame(data.attributes)
        text = json.dumps([name, to_dict(config), options.seed, options.refit, data.fingerprint], sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.folder = options.run / "checkpoints" if options.run else None

    def run(self, tracker: Tracker) -> Recommender:
        progress = self._stored() or Progress(fingerprint=self.fingerprint)
        if progress.stage == "search":
            task = self._task()
            progress = self._search(task, progress, tracker)
            if not self.options.refit:
                return self.recommender(task, progress)
            progress = Progress(
                stage="refit", best_epoch=progress.best_epoch or progress.epoch, best_score=progress.best_score,
                scores=progress.scores, seconds=progress.seconds, fingerprint=self.fingerprint,
            )  # fmt: skip
        task = self._task()
        say(f"{self.name}: again on train + validation for {progress.best_epoch} epochs")
        schedule = Schedule(epochs=progress.best_epoch, patience=0)
        return self.recommender(task, self._trainer(task, schedule, progress, tracker, refit=True).run())

    def _stored(self) -> Progress | None:
        """Where an interrupted run stands, when resuming; a checkpoint of another run is refused."""
        if not self.options.resume or self.folder is None or not (self.folder / "last.safetensors").exists():
            return None
        progress = load_checkpoint(self.folder / "last.safetensors")[1]
        if progress.fingerprint != self.fingerprint:
            raise InputError(
                f"{self.folder} belongs to a run with another configuration, seed or data set: "
                "use those again, or another --out"
            )
        return progress

    def _search(self, task: NextItem, progress: Progress, tracker: Tracker) -> Progress:
        assert self.config.epochs is not None and self.config.patience is not None, "a resolved configuration"
        limit = self.options.time_limit
        if limit is not None and self.options.refit:
            limit /= 2
        schedule = Schedule(
            epochs=self.config.epochs, patience=self.config.patience,
            deadline=None if limit is None else time.monotonic() + limit,
        )  # fmt: skip
        return self._trainer(task, schedule, progress, tracker, refit=False).run()

    def _trainer(
        self, task: NextItem, schedule: Schedule, progress: Progress, tracker: Tracker, *, refit: bool
    ) -> Trainer:
        config, data = self.config, self.data
        assert config.max_length is not None and config.horizon is not None
        loader = SequenceLoader(
            data.train(refit), max_length=config.max_length, batch_tokens=config.batch_tokens,
            num_items=len(data.items), negatives=0 if task.objective.full else config.negatives,
            horizon=config.horizon, seed=self.options.seed,
        )  # fmt: skip

        def validate() -> float:
            result = evaluate(self.recommender(task, trainer.progress), data, on="valid", k=(10,), users="tune")
            return result.rows[0].metrics["ndcg@10"]

        def publish() -> None:
            if self.options.run is not None:
                self.recommender(task, trainer.progress).save(self.options.run / "bundle")

        validated = not refit and len(data.cases("valid", users="tune").users) > 0
        trainer = Trainer(
            task, loader, schedule, progress, validate=validate if validated else None, folder=self.folder,
            tracker=tracker, on_best=publish,
        )  # fmt: skip
        if self.options.resume and trainer.resume():
            say(f"{self.name}: resuming {progress.stage} at epoch {progress.epoch + 1}, step {progress.step + 1}")
        return trainer

    def _task(self) -> NextItem:
        """A fresh network and table; both depend on the seed alone."""
        config, seed = self.config, self.options.seed
        assert config.hidden is not None and config.max_length is not None
        assert config.warmup is not None
        torch.manual_seed(seed)
        net = Transformer(
            block=self.block, dim=config.dim, layers=config.layers, heads=config.heads, hidden=config.hidden,
            max_length=config.max_length, dropout=config.dropout,
        )  # fmt: skip
        items = len(self.data.items)
        return NextItem(
            net,
            DenseTable(items, config.dim, optimiser=config.table_optimiser, seed=seed),
            OBJECTIVES[config.objective](items, config.negatives),
            lr=config.lr, warmup=config.warmup, weight_decay=config.weight_decay, clip=config.clip,
            bfloat16=config.precision == "bfloat16", seed=seed,
        )  # fmt: skip

    def recommender(self, task: NextItem, progress: Progress) -> Recommender:
        """The task as it stands, ready to answer; its arrays are views of the task's."""
        config = self.config
        assert config.max_length is not None
        task.net.eval()
        shape = TransformerShape(
            block=self.block, dim=config.dim, layers=config.layers, heads=config.heads, max_length=config.max_length
        )
        items_ND = task.table.weight()
        engine = TransformerEngine(shape, task.weights(), items_ND)
        task.net.train()
        return Recommender(
            EmbeddingSource(self.name, engine, ExactIndex.build(items_ND)),
            self.data.items,
            repeats=self.data.protocol.repeats,
            fallback=self.fallback,
            attributes=self.attributes,
            card={
                "model": self.name, "config": to_dict(config), "defaults": DEFAULTS_VERSION, "seed": self.options.seed,
                "epochs": progress.epoch, "best_epoch": progress.best_epoch, "validation": progress.scores,
                "refit": progress.stage == "refit",
            },
            lineage={"dataset": self.data.fingerprint, "name": self.data.name},
        )  # fmt: skip


def _targets_a_user(data: Dataset) -> int:
    """How far ahead the lists of this data set are judged: the median number of validation targets, 1 to 50."""
    lengths = data.cases("valid", users="tune").targets.lengths
    return max(1, min(50, int(np.median(lengths)))) if len(lengths) else 1
