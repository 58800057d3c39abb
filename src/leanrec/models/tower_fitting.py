"""One fit of two towers: features, search on validation, refit, and the Recommender of the result."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from leanrec.core.config import to_dict
from leanrec.data.dataset import Dataset
from leanrec.data.examples.events import examples_of
from leanrec.features.derived import Ages
from leanrec.features.items import ItemAttributes
from leanrec.features.space import FeatureSpace, SideName
from leanrec.index.exact import ExactIndex
from leanrec.models.base import FitOptions
from leanrec.models.popular import popular_fallback
from leanrec.models.stages import Stages
from leanrec.nn.tables import make_table
from leanrec.nn.towers import Fields, Towers
from leanrec.runtime.engines.towers import TowersEngine, TowersShape
from leanrec.runtime.newcomers import Newcomers
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.training.checkpoints import Progress
from leanrec.training.objectives import make_objective
from leanrec.training.towers import TowerLoader, TowerTask
from leanrec.training.tracking import Tracker
from leanrec.training.trainer import Schedule

if TYPE_CHECKING:
    import polars as pl

    from leanrec.models.two_tower import TwoTowerConfig

__all__ = ["DEFAULTS_VERSION", "TowerFitting", "vectors_of_new"]

DEFAULTS_VERSION = 1


_ITEM_SIDE = ("item_fields.", "item_tower.")


def fields_of(space: FeatureSpace, side: SideName, frame: pl.DataFrame, dim: int) -> Fields:
    """Fresh embeddings of the attributes of a side, over the rows of a frame."""
    features = space.features[side]
    sizes = [size for feature in features for _, size in feature.categories]
    list_sizes = [size for feature in features for _, size in feature.lists]
    return Fields(space.encode(frame, (side,)), sizes, list_sizes, dim)


def vectors_of_new(kept: Newcomers, items: pl.DataFrame, dim: int, hidden: int) -> npt.NDArray[np.float32]:
    """(M, D) what the item tower says of items by their attributes alone."""
    net_tensors, space_tensors = (
        {name.removeprefix(start): array for name, array in kept.tensors.items() if name.startswith(start)}
        for start in ("net.", "space.")
    )
    space = FeatureSpace.load(kept.config["space"], space_tensors)
    net = Towers(
        dim, hidden, 0.0, pooling="mean", window=1, items=fields_of(space, "item", items, dim), users=None
    ).eval()  # fmt: skip
    found = net.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in net_tensors.items()}, strict=False)
    assert not found.unexpected_keys and not any(name.startswith(_ITEM_SIDE) for name in found.missing_keys)
    with torch.no_grad():
        vectors_MD = net.items(torch.zeros(len(items), dim), torch.arange(len(items)))
    return np.asarray(vectors_MD.numpy(), np.float32)


class TowerFitting:
    """The number of epochs from validation, then, when asked, the refit."""

    def __init__(self, name: str, config: TwoTowerConfig, data: Dataset, options: FitOptions) -> None:
        self.name, self.config, self.data, self.options = name, config, data, options
        self.stages = Stages(name, config, data, options)
        self.attributes = None if data.attributes is None else ItemAttributes.from_frame(data.attributes)
        self.examples = examples_of(data, negatives=0, history=0)
        self.space = self._features()

    def run(self, tracker: Tracker) -> Recommender:
        config, stages = self.config, self.stages
        assert config.epochs is not None and config.patience is not None, "resolved"
        progress = stages.stored("search")
        if progress.stage == "search":
            task = self._task()
            schedule = stages.search(config.epochs, config.patience)
            progress = self._train(task, schedule, progress, tracker, refit=False)
            if not self.options.refit:
                return self.recommender(task, progress)
            progress = stages.after(progress, "refit")
        schedule = stages.refit(progress)
        task = self._task()
        return self.recommender(task, self._train(task, schedule, progress, tracker, refit=True))

    def _features(self) -> FeatureSpace:
        """Learnt from the attributes of users and items alone: ids have vectors of their own."""
        own = self.config.features
        left_out = {
            column: "ignore"
            for column, side in self.examples.sides.items()
            if side == "context" or column in ("user_id", "item_id")
        }
        asked = msgspec.structs.replace(own, columns={**own.columns, **left_out}, history=0)
        return FeatureSpace.fit(self.examples, asked)

    def _fields(self, side: SideName) -> Fields | None:
        features = self.space.features[side]
        frame = self.examples.entities(side)
        if not features or frame is None:
            return None
        return fields_of(self.space, side, frame, self.config.dim)

    def _task(self) -> TowerTask:
        """Fresh towers and table; both depend on the seed alone."""
        config, seed, items = self.config, self.options.seed, len(self.data.items)
        assert config.hidden is not None, "resolved"
        torch.manual_seed(seed)
        of_items, of_users = self._fields("item"), self._fields("user")
        net = Towers(
            config.dim, config.hidden, config.dropout, pooling=config.pooling, window=config.window, items=of_items,
            users=of_users,
        )  # fmt: skip
        return TowerTask(
            net, make_table("dense", items, config.dim, seed=seed),
            make_objective("sampled-softmax", {}, items, config.negatives),
            lr=config.lr, weight_decay=config.weight_decay, lost=config.lost_ids if of_items else 0.0,
            bare=config.bare_users if of_users else 0.0, seed=seed,
        )  # fmt: skip

    def _train(
        self, task: TowerTask, schedule: Schedule, progress: Progress, tracker: Tracker, *, refit: bool
    ) -> Progress:
        config, data, options = self.config, self.data, self.options
        assert config.horizon is not None, "resolved"
        loader = TowerLoader(
            data.train(refit), batch=config.batch, window=config.window, most=config.events,
            negatives=config.negatives, negatives_from=config.negatives_from, negative_options=config.negative_options,
            num_items=len(data.items), horizon=config.horizon, ordered=data.protocol.ordered,
            first=task.net.user_fields is not None, seed=options.seed,
        )  # fmt: skip

        judged = not refit and len(data.cases("valid", users="tune")) > 0
        trainer = self.stages.trainer(
            task, loader, schedule, progress, tracker, recommender=partial(self.recommender, task),
            score=self.stages.score if judged else None,
        )  # fmt: skip
        return trainer.run()

    def recommender(self, task: TowerTask, progress: Progress) -> Recommender:
        """The task as it stands, ready to answer."""
        data, refit = self.data, progress.stage == "refit"
        items_ND = task.items(np.bincount(data.train(refit).values, minlength=len(data.items)) > 0)
        engine = self._engine(task, items_ND)
        return Recommender(
            EmbeddingSource(self.name, engine, ExactIndex.build(items_ND)),
            data.items,
            users=data.users if engine.num_users else None,
            repeats=data.protocol.repeats,
            fallback=popular_fallback(data, refit=refit),
            attributes=self.attributes,
            card={
                "model": self.name, "config": to_dict(self.config), "defaults": DEFAULTS_VERSION,
                "seed": self.options.seed, "epochs": progress.epoch, "best_epoch": progress.best_epoch,
                "validation": progress.scores, "refit": refit, "features": self._named(),
            },
            lineage={"dataset": data.fingerprint, "name": data.name},
            newcomers=self._newcomers(task),
        )  # fmt: skip

    def _newcomers(self, task: TowerTask) -> Newcomers | None:
        """How attributes of items are read, and the item tower."""
        if task.net.item_fields is None:
            return None
        space = FeatureSpace({"item": self.space.features["item"]}, ages=Ages(()), crosses=(), history=0)
        tower = {f"net.{name}": a for name, a in task.weights().items() if name.startswith(_ITEM_SIDE)}
        return Newcomers({"space": space.config()}, tower | {f"space.{k}": a for k, a in space.tensors().items()})

    def _engine(self, task: TowerTask, items_ND: Any) -> TowersEngine:
        config, weights = self.config, task.weights()
        assert config.hidden is not None, "resolved"
        names = ["inner.weight", "inner.bias", "outer.weight", "outer.bias"]
        tensors = {name: weights[f"user_tower.{name}"] for name in names}
        if config.pooling == "attention":
            tensors |= {name: weights[name] for name in ("look.weight", "look.bias", "weigh.weight", "ago_L")}
        users_UD = task.users(len(self.data.users))
        if users_UD is not None:
            tensors["users"] = users_UD
        shape = TowersShape(pooling=config.pooling, window=config.window, hidden=config.hidden)
        return TowersEngine(shape, tensors, items_ND)

    def _named(self) -> dict[str, list[str]]:
        """The columns of each side that are looked at."""
        return {side: [feature.column for feature in features] for side, features in self.space.features.items()}
