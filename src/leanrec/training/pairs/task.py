"""One step of training on interactions: gather what the batch touches, its loss and gradient, the table's optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from leanrec.training.pairs.batches import PairBatch, UserBatch
from leanrec.training.pairs.objectives import PairObjective
from leanrec.training.pairs.tables import PlainTable
from leanrec.training.schedules import rate_at
from leanrec.training.workers.base import Workers
from leanrec.training.workers.solo import Solo

__all__ = ["PairTask"]

State = dict[str, npt.NDArray[Any]]
B = TypeVar("B", PairBatch, UserBatch)


class PairTask(Generic[B]):
    """A table of users then items and an objective: what `Trainer` trains. mean: gradients are by prediction."""

    def __init__(self, table: PlainTable, objective: PairObjective[B], num_users: int, *, mean: bool = False) -> None:
        self.table, self.num_users = table, num_users
        self.objective: PairObjective[B] = objective
        self.workers: Workers = Solo()
        self.grad_norm = 0.0
        self._mean, self._lr = mean, table.lr
        self._schedule, self._total_steps = "constant", 0

    def follow(self, schedule: str, total_steps: int) -> None:
        """The table's rate moves so from now on, and is at its end after that many steps (training/schedules.py)."""
        self._schedule, self._total_steps = schedule, total_steps

    @property
    def lr(self) -> float:
        return self.table.lr

    def step(self, batch: B) -> float:
        """The mean loss of the batch before the step."""
        self.table.lr = rate_at(self._schedule, self._lr, 0, self._total_steps, self.table.steps + 1)
        items_S = self.objective.items(batch, *self.vectors())
        rows_S = np.concatenate([batch.users_B, items_S + np.int32(self.num_users)])
        rows_V, places_S = self.table.distinct(rows_S)
        count = len(batch.users_B)
        total, grad_VD = self.objective.loss(batch, self.table.gather(rows_V), places_S[:count], places_S[count:])
        if self._mean:
            grad_VD /= np.float32(batch.predictions)
        self.grad_norm = float(np.sqrt(np.einsum("vd,vd->", grad_VD, grad_VD)))
        self.table.apply(rows_V, grad_VD)
        return total / max(batch.predictions, 1)

    def vectors(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(U, D) of users and (N, D) of items, as a step sees them; not to be written to."""
        vectors_MD = self.table.vectors()
        return vectors_MD[: self.num_users], vectors_MD[self.num_users :]

    def prefetch(self, batch: B) -> None:
        """Nothing to read ahead: the table is in memory."""

    def state(self) -> State:
        return {**self.table.state(), **self.objective.state()}

    def load_state(self, state: State) -> None:
        self.table.load_state(state)
        self.objective.load_state(state)

    def keep(self, states: Sequence[State]) -> None:
        """Nothing to free: states are copies."""
        del states
