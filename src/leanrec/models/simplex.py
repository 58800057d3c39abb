"""SimpleX: cosines, a user mixed with what they have, many negatives (Mao et al. 2021, arXiv:2109.12613)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from leanrec.core.jagged import Jagged
from leanrec.core.space import Dimension, Range
from leanrec.models.collaborative import CollaborativeConfig, CollaborativeModel, Served, check_at_least
from leanrec.models.forecasts_trained import Batch
from leanrec.training.pairs import PairTask, UserLoader
from leanrec.training.pairs.objectives import Contrastive, unit
from leanrec.training.pairs.tables import PlainTable

__all__ = ["SimpleX", "SimpleXConfig"]


class SimpleXConfig(CollaborativeConfig, frozen=True, kw_only=True):
    """A batch is users with all of their items."""

    batch: int = 256
    lr: float = 2e-3
    negatives: int = 1024
    """Shared by the users of a batch."""
    margin: float = 0.8
    """Negatives count as far as their cosine is above this."""
    weight: float = 300.0
    """Of the mean over the negatives, for each positive."""
    own: float = 0.5
    """Share of the user's own vector; the rest is the mean of their items'."""
    regularisation: float = 1e-6
    """Weight of the squares of the touched rows, by step."""

    space: ClassVar[Mapping[str, Dimension]] = {
        **CollaborativeConfig.space,
        "margin": Range(0.0, 0.9),
        "weight": Range(10.0, 2000.0, log=True),
        "own": Range(0.0, 1.0),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, negatives=1, weight=0, regularisation=0)
        if not (0 <= self.own <= 1 and -1 <= self.margin <= 1):
            raise ValueError(f"own={self.own} must be from 0 to 1, margin={self.margin} from -1 to 1")


class SimpleX(CollaborativeModel[SimpleXConfig]):
    """Someone unknown is the mean of what they have."""

    name: ClassVar[str] = "simplex"
    Config = SimpleXConfig

    def task(self, config: SimpleXConfig, train: Jagged, num_items: int, seed: int) -> PairTask[Any]:
        table = PlainTable(len(train) + num_items, config.dim, lr=config.lr, std=config.std, seed=seed)
        objective = Contrastive(
            config.dim, margin=config.margin, weight=config.weight, own=config.own, decay=config.regularisation,
            lr=config.lr,
        )  # fmt: skip
        return PairTask(table, objective, len(train))

    def batches(self, config: SimpleXConfig, train: Jagged, num_items: int, seed: int) -> UserLoader:
        return UserLoader(train, batch=config.batch, negatives=config.negatives, num_items=num_items, seed=seed)

    def batch(self, config: SimpleXConfig, num_users: int) -> Batch:
        return Batch(config.batch, config.negatives, shared=True)

    def served(self, config: SimpleXConfig, task: PairTask[Any], train: Jagged) -> Served:
        users_UD, items_ND = task.vectors()
        objective = task.objective
        assert isinstance(objective, Contrastive)
        inputs_ND = (items_ND @ objective.mix_DD).astype(np.float32)
        mixed_UD = objective.own * users_UD + (1 - objective.own) * train_means(train, inputs_ND)
        return Served(unit(mixed_UD)[0], unit(items_ND)[0], inputs_ND, 1.0)


def train_means(train: Jagged, inputs_ND: Any) -> Any:
    """(U, D) the mean of the rows of each user's items, zeros for none."""
    rows_T = train.row_of()
    columns = [np.bincount(rows_T, column[train.values], minlength=len(train)) for column in inputs_ND.T]
    return (np.stack(columns, axis=1) / np.maximum(train.lengths, 1)[:, None]).astype(np.float32)
