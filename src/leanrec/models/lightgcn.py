"""LightGCN: vectors averaged over the graph of users and items, nothing else (He et al. 2020, arXiv:2002.02126).

The negative of a pair is the best scored of several drawn evenly, as in `bpr-mf`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numba
import numpy as np

from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.kernels.spectrum import Graph
from leanrec.models.collaborative import CollaborativeConfig, CollaborativeModel, Served, check_at_least
from leanrec.models.forecasts_trained import Batch
from leanrec.training.pairs import PairLoader, PairTask, UserLoader
from leanrec.training.pairs.objectives import BPR, Softmax, unit
from leanrec.training.pairs.start import start_by_product
from leanrec.training.pairs.tables import GraphTable

__all__ = ["LightGCN", "LightGCNConfig"]

_PAIRS_A_USER = 27
_LEAST = 256


class LightGCNConfig(CollaborativeConfig, frozen=True, kw_only=True):
    """A batch is large, because every step propagates over the whole graph."""

    batch: int = 4096
    """Users a step, or 27 times as many pairs; at most a quarter of the users unless those are fewer than 256."""
    lr: float = 0.02
    epochs: int = 60
    start: Literal["spectral", "noise"] = "spectral"
    """Rows start from the leading singular vectors of who has what, or from noise."""
    layers: int = 3
    user_power: float = 1.0
    """A user of n items stands for n^-user_power on the way there and back; the paper's 1 hands little on by those who
    have much."""
    objective: Literal["bpr", "softmax"] = "bpr"
    """The paper's, by pairs, or a softmax of cosines over shared negatives, which learns popularity slowly."""
    candidates: int = 128
    """Items that the user has not are drawn for each pair; the one that scores highest is taken; `bpr` alone."""
    temperature: float = 0.1
    """Cosines are divided by this before the softmax."""
    negatives: int = 2048
    """Shared by the users of a batch; `softmax` alone."""
    regularisation: float = 0.03
    """Weight of the squares of the rows (eq. 15), by pair; `bpr` alone."""

    space: ClassVar[Mapping[str, Dimension]] = {
        **CollaborativeConfig.space,
        "layers": Choice((1, 2, 3, 4)),
        "user_power": Range(0.0, 1.0),
        "candidates": Choice((1, 8, 32, 128, 512)),
        "regularisation": Range(1e-4, 1.0, log=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, layers=1, candidates=1, negatives=1, regularisation=0)
        if not 0 <= self.user_power <= 1:
            raise ValueError(f"user_power={self.user_power} must be from 0 to 1")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")


class LightGCN(CollaborativeModel[LightGCNConfig]):
    """Someone unknown is folded in by the propagation rule itself, with a row of zeros of their own."""

    name: ClassVar[str] = "lightgcn"
    Config = LightGCNConfig

    def task(self, config: LightGCNConfig, train: Jagged, num_items: int, seed: int) -> PairTask[Any]:
        decay = config.regularisation / (len(train) + num_items) if config.objective == "bpr" else 0.0
        graph = Graph(train, num_items, numba.get_num_threads(), config.user_power)
        table = GraphTable(
            graph, config.dim, layers=config.layers, decay=decay, lr=config.lr, std=config.std, seed=seed
        )
        if config.start == "spectral":
            start_by_product(table, graph, config.std, seed)
        objective = Softmax(config.temperature) if config.objective == "softmax" else BPR(0.0)
        return PairTask(table, objective, len(train), mean=True)

    def batches(self, config: LightGCNConfig, train: Jagged, num_items: int, seed: int) -> PairLoader | UserLoader:
        size, negatives, shared = self.batch(config, len(train))
        if shared:
            return UserLoader(train, batch=size, negatives=negatives, num_items=num_items, seed=seed)
        return PairLoader(train, batch=size, candidates=negatives, num_items=num_items, seed=seed)

    def batch(self, config: LightGCNConfig, num_users: int) -> Batch:
        users = min(config.batch, max(_LEAST, num_users // 4))
        if config.objective == "bpr":
            return Batch(users * _PAIRS_A_USER, config.candidates, shared=False)
        return Batch(users, config.negatives, shared=True)

    def served(self, config: LightGCNConfig, task: PairTask[Any], train: Jagged) -> Served:
        table = task.table
        assert isinstance(table, GraphTable)
        users_UD, items_ND = task.vectors()
        # What a user's neighbours hand on: the sum over all layers but the last, scaled as on the way to a node.
        handed_ND = table.propagated(table.values_MD, config.layers - 1)[len(train) :]
        inputs_ND = handed_ND * table.graph.scale_M[len(train) :, None]
        if config.objective == "softmax":
            items_ND = unit(items_ND)[0]
        return Served(np.asarray(users_UD), items_ND, inputs_ND, config.user_power / 2)
