"""Two towers (Yi et al. 2019; mixed negatives as Yang et al. 2020): users and items from all that is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from leanrec.core.config import Config, to_dict
from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.core.space import Choice, Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.features.space import FeatureConfig
from leanrec.models.additions import Additions, grown_source, kept_newcomers, with_items
from leanrec.models.base import FitOptions, Model
from leanrec.models.forecasts_trained import towers_memory
from leanrec.models.tower_fitting import DEFAULTS_VERSION, TowerFitting, vectors_of_new
from leanrec.runtime.recommender import Recommender
from leanrec.training.memory import MemoryNeed
from leanrec.training.tracking import open_trackers

__all__ = ["TwoTower", "TwoTowerConfig"]


class TwoTowerConfig(Config, frozen=True, kw_only=True):
    """What is None is chosen from the data (defaults version 1) and printed."""

    dim: int = 64
    """Width D of the vectors."""
    hidden: int | None = None
    """Width of each tower's hidden layer; 2 D."""
    pooling: Literal["mean", "attention"] = "attention"
    """How a history becomes one vector: the mean of its items', or weighted by what and how long ago each was."""
    window: int = 50
    """The last events that are looked at."""
    features: FeatureConfig = msgspec.field(default_factory=FeatureConfig)
    """Which attributes of users and items are looked at, and how; by default all, as features.space guesses."""
    dropout: float = 0.2
    lost_ids: float = 0.1
    """Share of the items of a batch whose id is hidden, so that attributes learn to speak for new items; 0 where items
    have none."""
    bare_users: float = 0.05
    """Share of the histories that are hidden, for new users; 0 where users have no attributes."""
    negatives: int = 512
    """Shared by a batch; log-Q corrected."""
    negatives_from: str = "mixed"
    """Where they come from: `mixed` (targets of the batch, and the whole catalogue), see training.negatives."""
    negative_options: dict[str, Any] = msgspec.field(default_factory=dict)
    horizon: int | None = None
    """A prediction is one of the next `horizon` events; as many as a validation user has targets, at most 50."""
    events: int = 20
    """Predictions a user and epoch, at most."""
    lr: float = 3e-3
    weight_decay: float = 0.01
    batch: int = 512
    epochs: int | None = None
    """At most; by default as many as make about 10 million predictions, 5 to 200."""
    patience: int | None = None
    """Epochs without a better validation score before training stops; a tenth of the epochs, at least 3."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "dim": Choice((32, 64, 128)),
        "pooling": Choice(("mean", "attention")),
        "dropout": Range(0.0, 0.5),
        "lr": Range(5e-4, 1e-2, log=True),
        "negatives": Choice((256, 512, 1024)),
    }

    def __post_init__(self) -> None:
        for key in ("dim", "hidden", "window", "negatives", "horizon", "events", "batch", "epochs", "patience"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"{key} must be at least 1, not {value}")
        for key in ("dropout", "lost_ids", "bare_users"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"{key} is a share: at least 0, less than 1, not {getattr(self, key)}")


class TwoTower(Model[TwoTowerConfig]):
    """An item is its id and its attributes, a user the pooled items of the history and the user's attributes.

    Items that training never showed are their attributes alone, and so are users without a history.
    """

    name: ClassVar[str] = "two-tower"
    Config = TwoTowerConfig

    def resolve(self, data: Dataset) -> TwoTowerConfig:
        """The configuration with every None replaced."""
        config, lengths = self.config, data.train().lengths
        if not (lengths >= 2).any():
            raise InputError("no user has two training events, so there is no next item to learn: use popular")
        targets = data.cases("valid", users="tune").targets.lengths
        horizon = max(1, min(50, int(np.median(targets)))) if len(targets) else 1
        predictions = int(np.minimum(np.maximum(lengths - 1, 0), config.events).sum())
        epochs = config.epochs or max(5, min(200, 10_000_000 // predictions))
        return msgspec.structs.replace(
            config,
            hidden=config.hidden or 2 * config.dim,
            horizon=config.horizon or (horizon if data.protocol.ordered else 1),
            negatives=min(config.negatives, 2 * len(data.items)),
            epochs=epochs,
            patience=config.patience or max(3, epochs // 10),
        )

    def memory(self, data: Dataset) -> MemoryNeed:
        """Of the features that training would look at, which are learnt for this."""
        config = self.resolve(data)
        assert config.hidden is not None, "resolved"
        space = TowerFitting(self.name, config, data, FitOptions()).space
        counts = {"user": len(data.users), "item": len(data.items)}
        features = [(counts[side], one) for side, found in space.features.items() if side in counts for one in found]
        codes = sum(size for _, one in features for _, size in (*one.categories, *one.lists))
        coded = sum(
            rows * (8 * len(one.categories) + 4 * len(one.numbers) + 32 * len(one.lists)) for rows, one in features
        )
        return towers_memory(
            data, config.dim, hidden=config.hidden, batch=config.batch, window=config.window,
            negatives=config.negatives, codes=codes, fields=coded,
        )  # fmt: skip

    def add_items(self, recommender: Recommender, added: Additions) -> Recommender:
        """A new item is its attributes alone, as one that training never showed."""
        kept = kept_newcomers(recommender, " as its items had no attributes")
        config = self.config
        assert config.hidden is not None, "the configuration of the card is resolved"
        fresh_MD = vectors_of_new(kept, added.fresh, config.dim, config.hidden)
        return with_items(recommender, grown_source(recommender.source, fresh_MD), added)

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config = self.resolve(data)
        say(f"{self.name} (defaults {DEFAULTS_VERSION}): " + " ".join(f"{k}={v}" for k, v in to_dict(config).items()))
        fitting = TowerFitting(self.name, config, data, options)
        with open_trackers(options.track, options.run, self.name) as tracker:
            tracker.params({**to_dict(config), "seed": options.seed})
            return fitting.run(tracker)
