"""Batches of interactions without order: pairs with an item that the user does not have, or whole users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.pairs import draw_others

__all__ = ["PairBatch", "PairLoader", "UserBatch", "UserLoader"]

I32 = npt.NDArray[np.int32]
_SHUFFLE, _NEGATIVES = 0, 1


@dataclass(frozen=True, slots=True)
class PairBatch:
    """B times: a user, an item of theirs, and C items that are not, of which the objective takes one."""

    users_B: I32
    items_B: I32
    others_BC: I32
    step: int

    @property
    def predictions(self) -> int:
        return len(self.users_B)


@dataclass(frozen=True, slots=True)
class UserBatch:
    """B users with all of their items, and n negatives that they share, drawn evenly from the catalogue."""

    users_B: I32
    positives: Jagged
    negatives_n: I32
    step: int
    epoch: int

    @property
    def predictions(self) -> int:
        return len(self.positives.values)

    @property
    def items_S(self) -> I32:
        return np.concatenate([self.positives.values, self.negatives_n])


class PairLoader:
    """Every interaction once an epoch, in an order drawn anew. What is drawn depends on (seed, epoch, step) alone."""

    def __init__(self, train: Jagged, *, batch: int, candidates: int, num_items: int, seed: int) -> None:
        self._sorted = _sorted_items(train)
        self._owner_T = self._sorted.row_of().astype(np.int32)
        self.batch, self.candidates, self.num_items, self.seed = batch, candidates, num_items, seed
        self.tokens = len(self._owner_T)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-self.tokens // self.batch)

    def epoch(
        self, epoch: int, start: int = 0, *, announce: Callable[[PairBatch], None] = lambda batch: None
    ) -> Iterator[PairBatch]:
        """The batches of an epoch from step `start` on."""
        order_T = np.random.default_rng([self.seed, epoch, _SHUFFLE]).permutation(self.tokens)
        for step in range(start, self.steps):
            at = order_T[step * self.batch : (step + 1) * self.batch]
            users_B, items_B = self._owner_T[at], self._sorted.values[at]
            others_BC = np.empty((len(at), self.candidates), np.int32)
            draw = int(np.random.default_rng([self.seed, epoch, step, _NEGATIVES]).integers(1 << 62))
            draw_others(self._sorted.offsets, self._sorted.values, users_B, self.num_items, draw, others_BC)
            batch = PairBatch(users_B, items_B, others_BC, step)
            announce(batch)
            yield batch


class UserLoader:
    """Every user with training events once an epoch, in an order drawn anew."""

    def __init__(self, train: Jagged, *, batch: int, negatives: int, num_items: int, seed: int) -> None:
        self._items = _sorted_items(train)
        self._users = np.flatnonzero(self._items.lengths).astype(np.int32)
        self.batch, self.negatives, self.num_items, self.seed = batch, negatives, num_items, seed
        self.tokens = len(self._items.values)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-len(self._users) // self.batch)

    def epoch(
        self, epoch: int, start: int = 0, *, announce: Callable[[UserBatch], None] = lambda batch: None
    ) -> Iterator[UserBatch]:
        """The batches of an epoch from step `start` on."""
        users = np.random.default_rng([self.seed, epoch, _SHUFFLE]).permutation(self._users)
        for step in range(start, self.steps):
            some = users[step * self.batch : (step + 1) * self.batch]
            random = np.random.default_rng([self.seed, epoch, step, _NEGATIVES])
            negatives_n = random.integers(0, self.num_items, self.negatives, dtype=np.int32)
            batch = UserBatch(some, self._items.take(some), negatives_n, step, epoch)
            announce(batch)
            yield batch


def _sorted_items(train: Jagged) -> Jagged:
    """The distinct items of each user in rising order."""
    width = int(train.values.max(initial=0)) + 1
    keys_T = np.sort(train.row_of() * width + train.values)
    keys_T = keys_T[np.diff(keys_T, prepend=-1) > 0]
    lengths_U = np.bincount(keys_T // width, minlength=len(train))
    return Jagged.from_lengths((keys_T % width).astype(np.int32), lengths_U)
