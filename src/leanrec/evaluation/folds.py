"""k-fold protocols: every user, or every event, is held out once.

`users`: a fold's users are unknown to training; their last event is the test and what was before it their history; the
next fold's users validate likewise. `events`: each user's events fall into the folds at random; a fold is the test, the
next one validates, and the order of events counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.data.dataset import Dataset
from leanrec.data.split import CONTEXT, TEST, TRAIN, VALID, stable_uniform

__all__ = ["Over", "fold"]

Over = Literal["users", "events"]


def fold(data: Dataset, folds: int, *, over: Over = "users", seed: int = 0) -> Iterator[Dataset]:
    """The data set under each fold, with the same rows of users and items. Which fold a user is in depends on their id
    and the seed alone. InputError for fewer than three folds: one tests, one validates, the others train."""
    if folds < 3:
        raise InputError(f"folds={folds}: at least 3 are needed, one to test, one to validate and one to train")
    place_T = _by_user(data, folds, seed) if over == "users" else _by_event(data, folds, seed)
    events = data.interactions
    for number in range(folds):
        split = np.full(len(events), TRAIN, np.uint8)
        for label, held in ((VALID, (number + 1) % folds), (TEST, number)):
            mine_T = place_T == held
            if over == "users":
                split[mine_T] = CONTEXT
                ends = events.items.offsets[1:][events.items.lengths >= 2] - 1
                split[ends[mine_T[ends]]] = label
                alone = events.items.offsets[:-1][events.items.lengths == 1]
                split[alone] = TRAIN
            else:
                split[mine_T] = label
        protocol = msgspec.structs.replace(
            data.protocol,
            split=f"folds:{over},{folds}",
            ordered=data.protocol.ordered and over == "users",
            drawn_valid=False,
            seed=seed,
        )
        yield replace(
            data,
            name=f"{data.name} ({number + 1}/{folds})",
            interactions=replace(events, split=split),
            protocol=protocol,
            fingerprint="",
        )


def _by_user(data: Dataset, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(T,) the fold of each event's user."""
    fold_U = (stable_uniform(data.users, seed, "folds") * folds).astype(np.int64)
    return np.repeat(fold_U, data.interactions.items.lengths)


def _by_event(data: Dataset, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(T,) folds that hold equally many of each user's events, up to one, in random order."""
    owner_T = data.interactions.items.row_of()
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(owner_T)), owner_T))
    rank_T = np.empty(len(owner_T), np.int64)
    rank_T[order] = np.arange(len(owner_T)) - data.interactions.items.offsets[:-1][owner_T]
    start_U = rng.integers(0, folds, len(data.users))  # so that short histories do not all miss the last folds
    return np.asarray((rank_T + start_U[owner_T]) % folds)
