"""The memory that models need which train vectors in steps, beside those of sequences: pairs, and two towers.

As in `forecasts`, bytes are counted from the arrays that the code makes.
"""

from __future__ import annotations

from typing import NamedTuple

from leanrec.data.dataset import Dataset
from leanrec.training.memory import Line, MemoryNeed

__all__ = ["Batch", "hybrid_memory", "pairs_memory", "towers_memory"]

_PROGRAM = 40 << 20
"""Compiled loops, threads and scratch."""
_TORCH = 80 << 20
"""What comes with the first steps of a network."""
_VALIDATION = 40 << 20
"""Blocks of users, their histories, lists and scores: bounded whatever the catalogue."""
_EVENT = 13
"""An event: its item and the mask that picks it, its validation history, its place."""
_PAIR = 44
"""A training event beside it: sorted items, their users, the order of an epoch, and the sort that makes them."""
_OVERSAMPLED = 16
"""Columns beyond D from which the leading directions are found."""
_JUDGES = 3000
"""Users whose candidates a merge is fitted to, at most."""
_ADAM = 3
"""A value and its two moments."""


class Batch(NamedTuple):
    """What of a batch takes memory: pairs, each with negatives of its own, or users who share the batch's."""

    size: int
    negatives: int
    shared: bool


def pairs_memory(data: Dataset, dim: int, batch: Batch, *, spectral: bool, layers: int) -> MemoryNeed:
    """Vectors of users and items that learn from who has what.

    spectral: vectors start from leading directions. layers: of graph convolution, 0 for none.
    """
    users, items, events = len(data.users), len(data.items), _events(data)
    vectors = 4 * dim * (users + items)
    size = min(batch.size, users if batch.shared else events)
    touched = size * (1 + events // max(users, 1)) + batch.negatives if batch.shared else 3 * size
    scores = 4 * size * batch.negatives * (2 if batch.shared else 1)
    step = 16 * dim * min(touched, users + items) + scores + (5 * vectors if layers else 0)
    width = dim + _OVERSAMPLED
    start = 12 * width * (users + items) + 16 * width * max(users, items)
    # Least squares of users in float64, or item vectors through a map; then the copies that answer.
    answers = max(40 * users * dim, 20 * items * dim) if not layers else 8 * items * dim
    stays = [
        Line("events and histories", _EVENT * len(data.interactions) + _PAIR * events),
        Line("rows of users and items, with Adam's moments", _ADAM * vectors),
        Line("places of rows in a batch", 4 * (users + items)),
        Line("compiled code and threads", _PROGRAM),
    ]
    passing = [
        Line("a step: what it touches, scores, propagated vectors", step),
        Line("vectors that answer", answers + 8 * items * dim + 4 * users * dim),
        Line("validation", _VALIDATION),
    ]
    if spectral:
        passing.append(Line("leading directions to start from", start))
    bundle = 4 * dim * (users + 2 * items)
    disk = [Line("checkpoints, last and best", 2 * _ADAM * vectors), Line("bundle", bundle)]
    return MemoryNeed(stays=stays, passing=passing, disk=disk, remedies=["dim=...", "batch=..."])


def towers_memory(
    data: Dataset, dim: int, *, hidden: int, batch: int, window: int, negatives: int, codes: int, fields: int
) -> MemoryNeed:
    """Two towers. codes: of all categories and lists together. fields: bytes of the coded attributes."""
    items, events = len(data.items), _events(data)
    table = 4 * dim * items
    net = 4 * (dim * codes + 4 * dim * hidden + dim * dim)
    touched = min(items, batch * (window + 1) + negatives)
    activations = 4 * batch * window * dim * 6 + 4 * touched * (6 * dim + 4 * hidden)
    scores = 12 * batch * (negatives + 1)
    stays = [
        Line("events and histories", _EVENT * len(data.interactions) + _PAIR * events),
        Line("rows of items, with Adam's moments", _ADAM * table),
        Line("the towers, their gradients and Adam's moments", (1 + _ADAM) * net),
        Line("coded attributes", fields),
        Line("places of rows in a batch", 4 * items),
        Line("compiled code and threads", _PROGRAM + _TORCH),
    ]
    passing = [
        Line("a step: activations, scores, touched rows", activations + scores),
        Line("vectors that answer", 3 * table + 4 * dim * len(data.users)),
        Line("validation", _VALIDATION),
    ]
    disk = [Line("checkpoints, last and best", 2 * _ADAM * (table + net)), Line("bundle", table + 2 * net)]
    return MemoryNeed(stays=stays, passing=passing, disk=disk, remedies=["dim=...", "batch=...", "window=..."])


def hybrid_memory(data: Dataset, parts: list[tuple[str, MemoryNeed]], *, sources: int, depth: int) -> MemoryNeed:
    """One part after the other, each of them kept as it answers. parts: name and need of those that are fitted."""
    judges = min(_JUDGES, len(data.users))
    candidates = judges * min(sources * depth, len(data.items))
    kept = [sum(line.bytes for line in need.disk if line.what == "bundle") for _, need in parts]
    stays = [Line("parts that are fitted", sum(kept))]
    passing = [Line(f"the part {name}", need.memory_bytes) for name, need in parts]
    passing.append(Line("candidates, and what is known of them", candidates * (3 * 4 * (3 * sources + 5) + 24)))
    disk = [line for _, need in parts for line in need.disk]
    remedies = [remedy for _, need in parts[:1] for remedy in need.remedies]
    return MemoryNeed(stays=stays, passing=passing, disk=disk, remedies=["depth=...", *remedies])


def _events(data: Dataset) -> int:
    return int(data.train(True).lengths.sum())
