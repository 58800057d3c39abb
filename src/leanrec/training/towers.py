"""Training two towers: batches of histories with what came next, and the step that learns from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.core.jagged import Jagged
from leanrec.nn.tables.base import Table
from leanrec.nn.towers import Towers
from leanrec.training.negatives import make_negatives
from leanrec.training.objectives.base import Objective, Predictions
from leanrec.training.states import State, load_network, network_state, under
from leanrec.training.workers.base import Workers
from leanrec.training.workers.solo import Solo

__all__ = ["TowerBatch", "TowerLoader", "TowerTask"]

I32 = npt.NDArray[np.int32]
_ORDER, _BATCH, _SHUFFLE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class TowerBatch:
    """B predictions. items_BL: the history before each, newest last, -1 where there is none."""

    users_B: I32
    items_BL: I32
    targets_B: I32
    negatives_n: I32
    log_expected_n: npt.NDArray[np.float32]
    step: int

    @property
    def predictions(self) -> int:
        return len(self.targets_B)


class TowerLoader:
    """Events of every user once an epoch, at most `most` of each drawn anew, each to be told from those before it.

    horizon: what is predicted is one of the next `horizon` events. ordered: without an order, each epoch draws one.
    first: whether a user's first event is predicted too, from nothing but attributes. What is drawn depends on
    (seed, epoch, step) alone.
    """

    def __init__(
        self, train: Jagged, *, batch: int, window: int, most: int, negatives: int, negatives_from: str,
        negative_options: Mapping[str, Any], num_items: int, horizon: int, ordered: bool, first: bool, seed: int,
    ) -> None:  # fmt: skip
        self._train, self.batch, self.window, self.horizon, self.seed = train, batch, window, horizon, seed
        self._ordered, self._most, self._skipped = ordered, most, 0 if first else 1
        self.negatives = negatives
        counts_N = np.bincount(train.values, minlength=num_items)
        self._sampler = make_negatives(negatives_from, negative_options, counts_N)
        self._owner_T = train.row_of().astype(np.int32)
        self._place_T = np.arange(len(train.values)) - train.offsets[:-1][self._owner_T]
        self.tokens = int(np.minimum(np.maximum(train.lengths - self._skipped, 0), most).sum())

    def epoch(
        self, epoch: int, start: int = 0, *, announce: Callable[[TowerBatch], None] = lambda batch: None
    ) -> Iterator[TowerBatch]:
        """The batches of an epoch from step `start` on."""
        events_T = self._drawn(epoch)
        values_T = self._train.values if self._ordered else self._shuffled(epoch)
        for step in range(start, -(-len(events_T) // self.batch)):
            batch = self._make(values_T, events_T[step * self.batch : (step + 1) * self.batch], epoch, step)
            announce(batch)
            yield batch

    def _drawn(self, epoch: int) -> npt.NDArray[np.int64]:
        """The events of an epoch, in a random order."""
        random = np.random.default_rng([self.seed, epoch, _ORDER])
        events_T = random.permutation(np.flatnonzero(self._place_T >= self._skipped))
        by_user = np.argsort(self._owner_T[events_T], kind="stable")
        owners = self._owner_T[events_T[by_user]]
        first = np.flatnonzero(np.diff(owners, prepend=-1))
        nth = np.arange(len(owners)) - np.repeat(first, np.diff(np.append(first, len(owners))))
        kept = np.zeros(len(events_T), np.bool_)
        kept[by_user] = nth < self._most
        return np.asarray(events_T[kept])

    def _shuffled(self, epoch: int) -> I32:
        keys_T = np.random.default_rng([self.seed, epoch, _SHUFFLE]).random(len(self._owner_T))
        return np.asarray(self._train.values[np.lexsort((keys_T, self._owner_T))])

    def _make(self, values_T: I32, events_B: npt.NDArray[np.int64], epoch: int, step: int) -> TowerBatch:
        random = np.random.default_rng([self.seed, epoch, step, _BATCH])
        users_B = self._owner_T[events_B]
        left_B = self._train.offsets[1:][users_B] - events_B
        targets_B = values_T[events_B + (random.random(len(events_B)) * np.minimum(left_B, self.horizon)).astype(int)]
        at_BL = events_B[:, None] + np.arange(-self.window, 0)
        there_BL = at_BL >= self._train.offsets[:-1][users_B][:, None]
        items_BL = np.where(there_BL, values_T[np.maximum(at_BL, 0)], np.int32(-1)).astype(np.int32)
        negatives_n, expected_n = self._sampler.draw(self.negatives, targets_B, random)
        return TowerBatch(users_B, items_BL, targets_B, negatives_n, expected_n, step)


class TowerTask:
    """Both towers, the table of item ids, an objective, and the optimisers of all: what `Trainer` trains.

    lost: share of the items of a batch whose id is hidden, so that attributes learn to speak for new items
    (DropoutNet, Volkovs et al. 2017). bare: share of the histories that are hidden, for new users.
    """

    def __init__(
        self, net: Towers, table: Table, objective: Objective, *, lr: float, weight_decay: float, lost: float,
        bare: float, seed: int,
    ) -> None:  # fmt: skip
        self.net, self.table, self.objective, self.lr, self.seed = net, table, objective, lr, seed
        self.workers: Workers = Solo()
        self.grad_norm, self.steps = 0.0, 0
        self._lost, self._bare = lost, bare
        self._adam = torch.optim.AdamW(
            net.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, foreach=False
        )

    def step(self, batch: TowerBatch) -> float:
        """Learn from one batch; its mean loss."""
        torch.manual_seed((self.seed << 32) ^ self.steps)
        self.steps += 1
        asked = [np.maximum(batch.items_BL, 0).ravel(), batch.targets_B, batch.negatives_n]
        rows_U, places_S = self.table.distinct(np.concatenate(asked))
        leaf_UD = self.table.gather(rows_U)
        seen_BL, targets_B, negatives_n = torch.split(torch.from_numpy(places_S), [len(one) for one in asked])
        self._adam.zero_grad(set_to_none=True)
        vectors_UD = self.net.items(self._hidden(leaf_UD, self._lost), torch.from_numpy(rows_U.astype(np.int64)))
        hidden_BD = self._queries(batch, vectors_UD, seen_BL.view(batch.items_BL.shape))
        expected_n = torch.from_numpy(batch.log_expected_n)
        loss = self.objective.loss(Predictions(hidden_BD, vectors_UD, targets_B, negatives_n, expected_n))
        loss.backward()  # type: ignore[no-untyped-call]
        assert leaf_UD.grad is not None
        self._adam.step()
        self.table.apply(rows_U, leaf_UD.grad, self.lr)
        return float(loss.detach())

    def _queries(self, batch: TowerBatch, vectors_UD: Tensor, seen_BL: Tensor) -> Tensor:
        there_BL = torch.from_numpy(batch.items_BL >= 0)
        if self._bare:
            there_BL = there_BL & (torch.rand(len(there_BL), 1) >= self._bare)
        items_BLD = vectors_UD.index_select(0, seen_BL.reshape(-1)).view(*seen_BL.shape, -1) * there_BL[..., None]
        return self.net.queries(items_BLD, there_BL, torch.from_numpy(batch.users_B.astype(np.int64)))

    @staticmethod
    def _hidden(leaf_UD: Tensor, share: float) -> Tensor:
        return leaf_UD * (torch.rand(len(leaf_UD), 1) >= share) if share else leaf_UD

    @torch.no_grad()
    def items(self, known_N: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """(N, D) the vectors of all items; those not known were never trained, and speak by their attributes alone."""
        self.net.eval()
        ids_ND = torch.from_numpy(np.where(known_N[:, None], self.table.weight(), np.float32(0)))
        parts = [self.net.items(part, rows) for part, rows in _blocks(ids_ND)]
        self.net.train()
        return np.asarray(torch.cat(parts).numpy())

    @torch.no_grad()
    def users(self, count: int) -> npt.NDArray[np.float32] | None:
        """(U, D) what the attributes of users add to their pooled history, None without attributes."""
        fields = self.net.user_fields
        if fields is None:
            return None
        return np.asarray(torch.cat([fields(rows) for _, rows in _blocks(torch.empty(count, 0))]).numpy())

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The network's arrays by name; copies."""
        return {name: value.detach().numpy().copy() for name, value in self.net.state_dict().items()}

    def prefetch(self, batch: TowerBatch) -> None:
        """A coming batch: a table on disk reads its rows meanwhile."""
        self.table.prefetch(np.concatenate([np.maximum(batch.items_BL, 0).ravel(), batch.targets_B]))

    def state(self) -> State:
        """Everything an exact resume needs."""
        state: State = {"steps": np.asarray([self.steps], np.int64)}
        state |= {f"table.{name}": array for name, array in self.table.state().items()}
        return state | network_state(self.net, self._adam)

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        self.steps = int(state["steps"][0])
        self.table.load_state(under(state, "table."))
        load_network(self.net, self._adam, state)

    def keep(self, states: Sequence[State]) -> None:
        """Only these states may be loaded again."""
        self.table.keep([under(state, "table.") for state in states])


_BLOCK = 1 << 14


def _blocks(values_MD: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(values_MD), _BLOCK):
        part = values_MD[start : start + _BLOCK]
        yield part, torch.arange(start, start + len(part))
