"""One fit of a sequence model: search on validation, refit, and the Recommender of the result."""

from __future__ import annotations

from contextlib import closing
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch

from leanrec.core.config import build, to_dict
from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.data.dataset import Dataset
from leanrec.features.items import ItemAttributes
from leanrec.features.texts import item_texts
from leanrec.index.exact import ExactIndex
from leanrec.models.base import FitOptions
from leanrec.models.popular import popular_fallback
from leanrec.models.stages import Stages
from leanrec.nn.compiling import compile_network
from leanrec.nn.tables import make_table
from leanrec.nn.tables.base import Table
from leanrec.nn.text import Catalogue, ItemText, TextOptions, make_item_text
from leanrec.runtime.newcomers import Newcomers
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.training.augment import ContrastiveOptions
from leanrec.training.checkpoints import Progress
from leanrec.training.loader import SequenceLoader
from leanrec.training.objectives import make_objective
from leanrec.training.task import NextItem, StepOptions
from leanrec.training.tracking import Tracker
from leanrec.training.trainer import Schedule, Trainer
from leanrec.training.workers import WORKERS

if TYPE_CHECKING:
    from leanrec.models.sequential import SequenceConfig, SequenceModel

__all__ = ["DEFAULTS_VERSION", "Fitting"]

DEFAULTS_VERSION = 3


class Fitting:
    """One fit: a search for the number of epochs on validation, then, when asked, the refit on train + validation."""

    def __init__(self, model: SequenceModel[Any], config: SequenceConfig, data: Dataset, options: FitOptions) -> None:
        self.model, self.name, self.config, self.data, self.options = model, model.name, config, data, options
        self.fallback = popular_fallback(data)
        self.attributes = None if data.attributes is None else ItemAttributes.from_frame(data.attributes)
        self.stages = Stages(self.name, config, data, options)
        self.workers = WORKERS["group" if options.distributed else "solo"](config)

    def run(self, tracker: Tracker) -> Recommender:
        progress = self.stages.stored("pretrain")
        if progress.stage in ("pretrain", "search"):
            with closing(self._task(refit=False)) as task:
                progress = self._search(task, self._pretrain(task, progress, tracker), tracker)
                if not self.options.refit:
                    return self.recommender(task, progress)
            progress = self.stages.after(progress, "pretrain-refit")
        with closing(self._task(refit=True)) as task:
            schedule = self.stages.refit(progress)
            progress = self._pretrain(task, progress, tracker)
            return self.recommender(task, self._trainer(task, schedule, progress, tracker, refit=True).run())

    def _pretrain(self, task: NextItem, progress: Progress, tracker: Tracker) -> Progress:
        """Fill in hidden events first, where asked for; the start of the stage that follows."""
        if not progress.stage.startswith("pretrain"):
            return progress
        refit = progress.stage == "pretrain-refit"
        if self.config.pretrain_epochs:
            say(f"{self.name}: filling in hidden events for {self.config.pretrain_epochs} epochs")
            schedule = self.stages.fixed(self.config.pretrain_epochs)
            progress = self._trainer(task, schedule, progress, tracker, refit=refit).run()
        stage = "refit" if refit else "search"
        return msgspec.structs.replace(progress, stage=stage, epoch=0, step=0, loss_sum=0.0, loss_count=0)

    def _search(self, task: NextItem, progress: Progress, tracker: Tracker) -> Progress:
        assert self.config.epochs is not None and self.config.patience is not None, "a resolved configuration"
        schedule = self.stages.search(self.config.epochs, self.config.patience)
        return self._trainer(task, schedule, progress, tracker, refit=False).run()

    def _trainer(
        self, task: NextItem, schedule: Schedule, progress: Progress, tracker: Tracker, *, refit: bool
    ) -> Trainer:
        config, data = self.config, self.data
        assert config.max_length is not None and config.horizon is not None and config.negatives_from is not None
        pretraining = progress.stage.startswith("pretrain")
        contrastive = build(ContrastiveOptions, config.contrastive_options, where="contrastive_options")
        loader = SequenceLoader(
            data.train(refit), max_length=config.max_length, batch_tokens=config.batch_tokens,
            num_items=len(data.items), negatives=0 if task.objective.full else config.negatives,
            negatives_from=config.negatives_from, negative_options=config.negative_options, horizon=config.horizon,
            masked=config.mask_share if pretraining or self.model.masked else 0.0, class_weight=config.class_weight,
            views=contrastive if config.contrastive else None, seed=self.options.seed,
            times=data.train_times(refit) if self.model.times else None,
            soft=None if pretraining else self.options.soft,
        )  # fmt: skip

        judged = not refit and not pretraining and len(data.cases("valid", users="tune").users) > 0
        return self.stages.trainer(
            task, loader, schedule, progress, tracker, recommender=partial(self.recommender, task),
            score=self.stages.score if judged else None,
        )  # fmt: skip

    def _task(self, *, refit: bool) -> NextItem:
        """A fresh network and table; both depend on the seed alone."""
        config, seed, items = self.config, self.options.seed, len(self.data.items)
        assert config.warmup is not None and config.epochs is not None and config.ema is not None
        torch.manual_seed(seed)
        predictions = int(np.maximum(self.data.train().lengths - 1, 0).sum())
        options = StepOptions(
            lr=config.lr, warmup=config.warmup, schedule=config.schedule,
            total_steps=(config.pretrain_epochs + config.epochs) * -(-predictions // config.batch_tokens),
            weight_decay=config.weight_decay, contrastive=config.contrastive,
            temperature=build(ContrastiveOptions, config.contrastive_options, where="contrastive_options").temperature,
            clip=config.clip, accumulate=config.accumulate, ema=config.ema, precision=config.precision,
            soft=self.options.soft_share if self.options.soft is not None else 0.0,
            device=config.device, seed=seed,
        )  # fmt: skip

        net = self.model.network(config)
        if config.compile:
            compile_network(net)

        def make(rows: int) -> Table:
            return make_table(
                config.table, rows, config.dim, seed=seed, options=config.table_options,
                sequences=self.data.train(), folder=self.stages.folder,
            )  # fmt: skip

        return NextItem(
            net,
            self.workers.table(items, make),
            make_objective(config.objective, config.objective_options, items, config.negatives),
            options,
            self.workers,
            self._texts(refit),
        )

    def _texts(self, refit: bool) -> ItemText | None:
        """What makes item vectors of texts, where asked for."""
        config, attributes = self.config, self.data.attributes
        if config.text == "none":
            return None
        if attributes is None:
            raise InputError(
                f"{self.name}: text={config.text} needs titles: prepare {self.data.name} with --items FILE"
            )
        if self.options.distributed:
            raise InputError(f"{self.name} with text={config.text} trains in one process: leave --workers out")
        counts_N = np.bincount(self.data.train(refit).values, minlength=len(self.data.items))
        texts = item_texts(attributes, config.text_options.get("template"))
        return make_item_text(config.text, config.text_options, Catalogue(texts=texts, counts_N=counts_N), config.dim)

    def recommender(self, task: NextItem, progress: Progress) -> Recommender:
        """The task as it stands, ready to answer; its arrays are views of the task's."""
        items_ND, weights = task.items(), task.weights()
        net = {name: array for name, array in weights.items() if not name.startswith("texts.")}
        engine = self.model.engine(self.config, net, items_ND)
        return Recommender(
            EmbeddingSource(self.name, engine, ExactIndex.build(items_ND)),
            self.data.items,
            repeats=self.data.protocol.repeats,
            fallback=self.fallback,
            attributes=self.attributes,
            card={
                "model": self.name, "config": to_dict(self.config), "defaults": DEFAULTS_VERSION,
                "seed": self.options.seed,
                "epochs": progress.epoch, "best_epoch": progress.best_epoch, "validation": progress.scores,
                "refit": progress.stage == "refit",
            },
            lineage={"dataset": self.data.fingerprint, "name": self.data.name},
            newcomers=self._newcomers(task, weights),
        )  # fmt: skip

    def _newcomers(self, task: NextItem, weights: dict[str, Any]) -> Newcomers | None:
        """What makes vectors of items without events from texts; a language model that learnt is not kept for that."""
        if self.config.text in ("none", "tuned"):
            return None
        start = "texts.projection."
        kept = {name.removeprefix(start): array for name, array in weights.items() if name.startswith(start)}
        return Newcomers({**self._of_texts, "unit": task.objective.cosine}, kept)

    @cached_property
    def _of_texts(self) -> dict[str, Any]:
        """The language model of the texts with its fingerprint, whose files are read once."""
        from leanrec.nn.text.newcomers import text_facts

        asked = {key: value for key, value in self.config.text_options.items() if key in TextOptions.__struct_fields__}
        return text_facts(build(TextOptions, asked))
