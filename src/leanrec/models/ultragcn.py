"""UltraGCN: what infinitely many layers converge to, as weights of a loss (Mao et al. 2021, arXiv:2110.15114)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from leanrec.core.jagged import Jagged
from leanrec.core.space import Dimension, Range
from leanrec.models.collaborative import (
    CollaborativeConfig,
    CollaborativeModel,
    Served,
    check_at_least,
    fold_by_least_squares,
)
from leanrec.models.forecasts_trained import Batch
from leanrec.training.pairs import PairTask, UserLoader
from leanrec.training.pairs.objectives import Constraint
from leanrec.training.pairs.tables import PlainTable

__all__ = ["UltraGCN", "UltraGCNConfig"]


class UltraGCNConfig(CollaborativeConfig, frozen=True, kw_only=True):
    """A batch is users with all of their items."""

    batch: int = 128
    lr: float = 5e-3
    negatives: int = 1024
    """Shared by the users of a batch."""
    weight: float = 300.0
    """Of the mean over the negatives, for each positive."""
    graph: float = 5e-4
    """Weight of the item-item graph; 0 leaves it out."""
    neighbours: int = 10
    """Items that each item is tied to in that graph."""
    regularisation: float = 1e-4
    """Weight of the squares of the touched rows, by step."""

    space: ClassVar[Mapping[str, Dimension]] = {
        **CollaborativeConfig.space,
        "weight": Range(10.0, 1000.0, log=True),
        "graph": Range(1e-5, 10.0, log=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, negatives=1, weight=0, graph=0, neighbours=1, regularisation=0)


class UltraGCN(CollaborativeModel[UltraGCNConfig]):
    """Someone unknown is folded in by the linear map of histories that fits the known users best."""

    name: ClassVar[str] = "ultragcn"
    Config = UltraGCNConfig

    def task(self, config: UltraGCNConfig, train: Jagged, num_items: int, seed: int) -> PairTask[Any]:
        table = PlainTable(len(train) + num_items, config.dim, lr=config.lr, std=config.std, seed=seed)
        # Scores start near -log(weight), where positives and negatives balance. From 0 the first steps push every
        # score down, and Adam's second moments remember that for dozens of epochs.
        bias = math.sqrt(math.log(max(config.weight, 1.0)))
        table.values_MD[: len(train), 0] = bias
        table.values_MD[len(train) :, 0] = -bias
        objective = Constraint(
            train, num_items, weight=config.weight, graph=config.graph, neighbours=config.neighbours,
            decay=config.regularisation, seed=seed,
        )  # fmt: skip
        return PairTask(table, objective, len(train))

    def batches(self, config: UltraGCNConfig, train: Jagged, num_items: int, seed: int) -> UserLoader:
        return UserLoader(train, batch=config.batch, negatives=config.negatives, num_items=num_items, seed=seed)

    def batch(self, config: UltraGCNConfig, num_users: int) -> Batch:
        return Batch(config.batch, config.negatives, shared=True)

    def served(self, config: UltraGCNConfig, task: PairTask[Any], train: Jagged) -> Served:
        users_UD, items_ND = task.vectors()
        return Served(users_UD, items_ND, *fold_by_least_squares(users_UD, items_ND, train))
