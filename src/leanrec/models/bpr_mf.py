"""Matrix factorisation by Bayesian personalised ranking (Rendle et al. 2009, arXiv:1205.2618).

The negative of a pair is the best scored of several drawn evenly (dynamic negative sampling, Zhang et al. 2013): an
item drawn alone is soon told apart from what a user has, and then teaches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numba

from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.kernels.spectrum import Graph
from leanrec.models.collaborative import (
    CollaborativeConfig,
    CollaborativeModel,
    Served,
    check_at_least,
    fold_by_least_squares,
)
from leanrec.models.forecasts_trained import Batch
from leanrec.training.pairs import PairLoader, PairTask
from leanrec.training.pairs.objectives import BPR
from leanrec.training.pairs.start import start_by_product
from leanrec.training.pairs.tables import PlainTable

__all__ = ["BPRMF", "BPRMFConfig"]


class BPRMFConfig(CollaborativeConfig, frozen=True, kw_only=True):
    """A batch is pairs: an item that the user has against one that they have not."""

    batch: int = 4096
    lr: float = 0.005
    epochs: int = 60
    start: Literal["spectral", "noise"] = "spectral"
    """Vectors start from the leading singular vectors of who has what, or from noise."""
    candidates: int = 64
    """Items that the user has not are drawn for each pair; the one that scores highest is taken."""
    regularisation: float = 0.02
    """Weight of the squares of the vectors of each pair."""

    space: ClassVar[Mapping[str, Dimension]] = {
        **CollaborativeConfig.space,
        "candidates": Choice((1, 8, 32, 64, 128)),
        "regularisation": Range(1e-4, 1e-1, log=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, candidates=1, regularisation=0)


class BPRMF(CollaborativeModel[BPRMFConfig]):
    """A step touches the rows of its pairs and no other."""

    name: ClassVar[str] = "bpr-mf"
    Config = BPRMFConfig

    def task(self, config: BPRMFConfig, train: Jagged, num_items: int, seed: int) -> PairTask[Any]:
        table = PlainTable(len(train) + num_items, config.dim, lr=config.lr, std=config.std, seed=seed)
        if config.start == "spectral":
            start_by_product(table, Graph(train, num_items, numba.get_num_threads()), config.std, seed)
        return PairTask(table, BPR(config.regularisation), len(train))

    def batches(self, config: BPRMFConfig, train: Jagged, num_items: int, seed: int) -> PairLoader:
        return PairLoader(train, batch=config.batch, candidates=config.candidates, num_items=num_items, seed=seed)

    def batch(self, config: BPRMFConfig, num_users: int) -> Batch:
        return Batch(config.batch, config.candidates, shared=False)

    def served(self, config: BPRMFConfig, task: PairTask[Any], train: Jagged) -> Served:
        users_UD, items_ND = task.vectors()
        return Served(users_UD, items_ND, *fold_by_least_squares(users_UD, items_ND, train))
