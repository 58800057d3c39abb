"""What the sequence models share: configuration, adaptive defaults, and which network and engine they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from torch import nn

from leanrec.core.config import to_dict
from leanrec.core.console import say
from leanrec.core.errors import ConfigError, InputError
from leanrec.core.space import Choice, Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.features.texts import item_texts
from leanrec.models.additions import Additions, grown_source, kept_newcomers, with_items
from leanrec.models.base import FitOptions, Model
from leanrec.models.fitting import DEFAULTS_VERSION, Fitting
from leanrec.models.memory import memory_need
from leanrec.runtime.base import Engine
from leanrec.runtime.recommender import Recommender
from leanrec.training.memory import MemoryNeed, ensure_memory
from leanrec.training.precision import choose_device, choose_precision
from leanrec.training.profile import profiling
from leanrec.training.schedules import check_schedule
from leanrec.training.tracking import open_trackers
from leanrec.training.workers.base import WorkersConfig

__all__ = ["SequenceConfig", "SequenceModel"]


class SequenceConfig(WorkersConfig, frozen=True, kw_only=True):
    """Settings that every sequence model has. What is None is chosen from the data (rule version 2) and printed."""

    dim: int = 64
    """Width D of item vectors and hidden states."""
    max_length: int | None = None
    """Window: the last events that are looked at; covers nine users in ten, 20 to 100."""
    dropout: float = 0.3
    objective: str = "sampled-softmax"
    negatives: int = 512
    """Shared by the predictions of a batch."""
    negatives_from: str | None = None
    """Where they come from: `uniform`, `popularity`, `in-batch` or `mixed`, see training.negatives. By default
    `uniform`; with texts `popularity` to the power of 0, so that nothing is learned against an item without events."""
    class_weight: float = 0.0
    """Predictions count by this power of 1 / the number of events of their target, 1 on average."""
    contrastive: float = 0.0
    """What a contrastive loss over two altered views of every window counts for (CL4SRec); 0 is off."""
    mask_share: float = 0.3
    """Share of the events that is hidden, in pretraining and in models that learn to fill in hidden events."""
    pretrain_epochs: int = 0
    """Epochs of filling in hidden events before the training proper."""
    horizon: int | None = None
    """A prediction is one of the next `horizon` events; as many as a validation user has targets, at most 50."""
    lr: float = 3e-3
    warmup: int | None = None
    """Steps over which the learning rate rises; an epoch's, at most 100."""
    weight_decay: float = 0.0
    schedule: str = "constant"
    """How the learning rate moves after the rise: constant, linear, cosine or inverse-sqrt (training/schedules.py)."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    ema: float | None = None
    """Decay of the moving average of the weights that is validated and kept; .998 for dense tables of at most 100
    million values, else 0, which is off."""
    batch_tokens: int = 1024
    """Predictions a step."""
    accumulate: int = 1
    """Parts that a step's batch is computed in, one after the other: less memory for the same step."""
    compile: bool = False
    """torch.compile the network: minutes at first, fewer passes over memory after; on a CPU it needs a C++ compiler."""
    epochs: int | None = None
    """At most; by default as many as make about 20 million predictions, 3 to 300."""
    patience: int | None = None
    """Epochs without a better validation score before training stops; a tenth of the epochs, at least 3."""
    precision: str = "auto"
    """`float32`, `bfloat16`, `float16` (autocast) or `auto`: bfloat16 where the device has it and the width pays."""
    device: str = "auto"
    """Where the network trains: `cpu`, `cuda`, or `auto`: a GPU when there is one."""
    table: str = "dense"
    """Kind of the item table, see nn.tables."""
    table_options: dict[str, Any] = msgspec.field(default_factory=dict)
    text: str = "none"
    """How the texts of items (title, categories, description) enter their vectors: `gate` mixes id and text, `align`
    pulls ids towards texts, `alone` has no ids, `none` has no texts; see nn.text."""
    text_options: dict[str, Any] = msgspec.field(default_factory=dict)
    """`encoder` and what else the way of using texts can be told."""
    objective_options: dict[str, Any] = msgspec.field(default_factory=dict)
    negative_options: dict[str, Any] = msgspec.field(default_factory=dict)
    contrastive_options: dict[str, Any] = msgspec.field(default_factory=dict)
    """How views are altered and compared, see training.augment."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "dim": Choice((32, 64, 128, 256)),
        "dropout": Range(0.0, 0.6),
        "lr": Range(5e-4, 1e-2, log=True),
        "negatives": Choice((128, 256, 512, 1024)),
        "batch_tokens": Choice((512, 1024, 2048, 4096)),
    }


C = TypeVar("C", bound=SequenceConfig)


class SequenceModel(Model[C]):
    """A network that predicts what comes next at every position of a history.

    Subclasses say which network trains and which engine, given its arrays, computes the same without torch. C: the
    subclass's configuration.
    """

    Config = SequenceConfig
    times: ClassVar[bool] = False
    """Whether the network looks at the times of the events (where the data has them)."""
    masked: ClassVar[bool] = False
    """Whether it learns to fill in hidden events (cloze) instead of what comes next; its `mask_D` stands for them."""

    @abstractmethod
    def settle(self, config: C) -> C:
        """The configuration with what this network alone derives or refuses; its width and window are known."""

    @abstractmethod
    def network(self, config: C) -> nn.Module:
        """Fresh; called as `net(items_RLD, packed)`, gives (R, L, D)."""

    @abstractmethod
    def engine(self, config: C, tensors: Mapping[str, npt.NDArray[Any]], items_ND: npt.NDArray[np.float32]) -> Engine:
        """What serves, from the network's arrays by name."""

    def resolve(self, data: Dataset) -> C:
        """The configuration with every None replaced from the data's size and shape."""
        config = self.config
        lengths = data.train().lengths
        lengths = lengths[lengths >= 2]
        if len(lengths) == 0:
            raise InputError("no user has two training events, so there is no next item to learn: use popular")
        predictions = int((lengths - 1).sum())
        ninth = int(-(-sorted(lengths.tolist())[int(0.9 * (len(lengths) - 1))] // 10) * 10)
        epochs = config.epochs or max(3, min(300, 20_000_000 // predictions))
        check_schedule(config.schedule)
        if not 0 < config.mask_share < 1:
            raise ConfigError(f"{self.name}: mask_share={config.mask_share} is no share: use a number between 0 and 1")
        device = choose_device(config.device)
        named = config.negatives_from
        by_default, options = ("uniform", {}) if config.text == "none" else ("popularity", {"exponent": 0.0})
        filled = msgspec.structs.replace(
            config,
            negatives_from=named or by_default,
            negative_options=config.negative_options if named else {**options, **config.negative_options},
            max_length=config.max_length or max(20, min(100, ninth)),
            epochs=epochs,
            patience=config.patience or max(3, epochs // 10),
            warmup=min(100, predictions // config.batch_tokens) if config.warmup is None else config.warmup,
            negatives=min(config.negatives, len(data.items)),
            horizon=config.horizon or _targets_a_user(data),
            ema=_average_pays(config, len(data.items)) if config.ema is None else config.ema,
            device=device,
            precision=choose_precision(config.precision, config.dim, device),
        )
        return self.settle(filled)

    def memory(self, data: Dataset) -> MemoryNeed:
        """What training on this data into a run folder needs, beside what the process holds already."""
        return memory_need(self, self.resolve(data), data, saved=True)

    def add_items(self, recommender: Recommender, added: Additions) -> Recommender:
        """With texts in item vectors (`text=gate`, `align`, `alone`) new items are texts, as all without events are."""
        text = recommender.card["config"]["text"]
        if text == "none":
            return super().add_items(recommender, added)
        kept = kept_newcomers(recommender, " once the language model has learned too" if text == "tuned" else "")
        from leanrec.nn.text.newcomers import projected

        fresh_MD = projected(item_texts(added.fresh, kept.config["template"]), kept.config, kept.tensors)
        return with_items(recommender, grown_source(recommender.source, fresh_MD), added)

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config = self.resolve(data)
        say(f"{self.name} (defaults {DEFAULTS_VERSION}): " + " ".join(f"{k}={v}" for k, v in to_dict(config).items()))
        if config.device == "cpu":
            need = memory_need(self, config, data, saved=options.run is not None)
            ensure_memory(need, f"training {self.name}", options.run)
        fitting = Fitting(self, config, data, options)
        folder = options.run / "profile" if options.profile and options.run else None
        with (
            open_trackers(options.track, options.run if fitting.workers.rank == 0 else None, self.name) as tracker,
            profiling(folder, rank=fitting.workers.rank, workers=fitting.workers.world, precision=config.precision),
        ):
            tracker.params({**to_dict(config), "seed": options.seed})
            return fitting.run(tracker)


def _average_pays(config: SequenceConfig, items: int) -> float:
    """An average doubles the memory of the table's values."""
    return 0.998 if config.table in ("dense", "none") and items * config.dim <= 100_000_000 else 0.0


def _targets_a_user(data: Dataset) -> int:
    """How far ahead the lists of this data set are judged: the median number of validation targets, 1 to 50."""
    lengths = data.cases("valid", users="tune").targets.lengths
    return max(1, min(50, int(np.median(lengths)))) if len(lengths) else 1
