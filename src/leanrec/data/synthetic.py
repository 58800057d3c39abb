"""Made-up events with something to learn, any number of them, in bounded memory.

Popularity is Zipf's. Items belong to topics; each user has a factor vector, each topic another, and their product says
how much the user likes the topic (the planted factors). An event is either drawn from the user's topics, or follows on
the item before it: every item has a few successors (the planted order). Events of a user come in sessions.

Everything is drawn block by block of users from (seed, block), so that a user's events do not depend on how many are
asked for at once, and no loop runs over single events.
"""

from __future__ import annotations

import errno
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.io.plugins import register_io_source

from leanrec.core.errors import InputError
from leanrec.core.files import disk_errors

__all__ = ["World", "generate", "sample"]

_BLOCK_EVENTS = 1 << 20
_SUCCESSORS = 4
_SESSION = 6.0
_SECONDS_BETWEEN = 45.0
_START = 1_577_836_800.0  # 2020-01-01
_YEAR = 365 * 86_400.0

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is planted. users, items, events: how many (a user may have none when events are few).

    dim: D of the factors. zipf: exponent of popularity. chain: share of events that follow on the one before.
    taste: how strongly users differ in topics (0 not at all). text_ids: ids such as `u17`, `i4` instead of numbers.
    """

    users: int
    items: int
    events: int
    dim: int = 16
    zipf: float = 1.05
    chain: float = 0.5
    taste: float = 3.0
    seed: int = 0
    text_ids: bool = False

    def __post_init__(self) -> None:
        for name in ("users", "items", "events", "dim"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: a synthetic data set needs at least one")
        if not 0 <= self.chain < 1:
            raise InputError(f"chain={self.chain} must be at least 0 and below 1")

    @property
    def topics(self) -> int:
        return max(1, min(64, math.isqrt(self.items)))

    def blocks(self) -> Iterator[pl.DataFrame]:
        """Frames of `user_id`, `item_id`, `timestamp`: all events of some users, in order of time inside each frame."""
        plan = _Plan(self)
        per_block = max(1, round(_BLOCK_EVENTS * self.users / self.events))
        for block, low in enumerate(range(0, self.users, per_block)):
            frame = plan.block(block, low, min(low + per_block, self.users))
            if len(frame):
                yield frame


def generate(path: str | Path, **world: Any) -> World:
    """Stream a `World(**world)` to a Parquet file, one row group a block; the file appears when it is complete."""
    planted = World(**world)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    schema = next(World(users=1, items=1, events=1, text_ids=planted.text_ids).blocks()).schema

    def source(columns: list[str] | None, *_: Any) -> Iterator[pl.DataFrame]:
        for block in planted.blocks():
            yield block if columns is None else block.select(columns)

    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            register_io_source(source, schema=schema).sink_parquet(temporary, row_group_size=_BLOCK_EVENTS)
            temporary.replace(path)
        except pl.exceptions.PolarsError as error:
            if f"os error {errno.ENOSPC}" in str(error):  # Polars keeps the number only in its text
                raise OSError(errno.ENOSPC, str(error)) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
    return planted


def sample(**world: Any) -> pl.DataFrame:
    """A small `World(**world)` in memory, in order of time."""
    return pl.concat(World(**world).blocks()).sort("timestamp", maintain_order=True)


class _Plan:
    """What all blocks share: topics, popularity inside a topic, and the names of items."""

    def __init__(self, world: World) -> None:
        self.world = world
        shared = np.random.default_rng([world.seed, 0])
        self.topics_KD = shared.standard_normal((world.topics, world.dim)) / np.sqrt(world.dim)
        # The item of popularity rank r is in topic r % K, so that all topics are alike in popularity.
        ranks = np.arange(0, world.items, world.topics) + 1.0
        self.popularity = np.cumsum(ranks**-world.zipf)
        self.popularity /= self.popularity[-1]
        self.item_of_rank = shared.permutation(world.items)

    def block(self, number: int, low: int, high: int) -> pl.DataFrame:
        """The events of users low..high."""
        world = self.world
        random = np.random.default_rng([world.seed, 1, number])
        first = world.events * low // world.users
        total = world.events * high // world.users - first
        weights = np.cumsum(random.lognormal(0.0, 0.8, high - low))
        ends = np.floor(weights / weights[-1] * total + 0.5).astype(np.int64)
        lengths = np.diff(ends, prepend=0)
        owner = np.repeat(np.arange(high - low), lengths)
        ranks = self._ranks(random, owner, ends, lengths)
        times = _times(random, owner, ends, lengths)
        order = np.argsort(times, kind="stable")
        frame = pl.DataFrame(
            {"user_id": owner[order] + low, "item_id": self.item_of_rank[ranks[order]], "timestamp": times[order]}
        )
        if not world.text_ids:
            return frame
        return frame.with_columns(
            pl.concat_str(pl.lit(name[0]), pl.col(name)).alias(name) for name in ("user_id", "item_id")
        )

    def _ranks(self, random: np.random.Generator, owner: Ints, ends: Ints, lengths: Ints) -> Ints:
        """(T,) the popularity rank of the item of each event, users one after the other."""
        world, count = self.world, len(owner)
        tastes_UD = random.standard_normal((len(lengths), world.dim))
        likes_UK = np.exp(world.taste * tastes_UD @ self.topics_KD.T)
        shares_UK = np.cumsum(likes_UK, axis=1)
        shares_UK /= shares_UK[:, -1:]
        # Rows of shares shifted by their user's number make one rising array, searched for all events at once.
        shifted = (shares_UK + np.arange(len(lengths))[:, None]).ravel()
        topic = np.searchsorted(shifted, owner + random.random(count), side="right") - owner * world.topics
        topic = np.clip(topic, 0, world.topics - 1)
        inside = np.searchsorted(self.popularity, random.random(count))
        ranks: Ints = np.minimum(inside * world.topics + topic, world.items - 1)
        follows = random.random(count) < world.chain
        follows[(ends - lengths)[lengths > 0]] = False
        choice = np.minimum(random.geometric(0.6, count), _SUCCESSORS)
        self._follow(ranks, follows, choice)
        return ranks

    def _follow(self, ranks: Ints, follows: npt.NDArray[np.bool_], choice: Ints) -> None:
        """Set each following event to a successor of the item before it: first those one step from a free event."""
        at = np.arange(len(ranks))
        depth = at - np.maximum.accumulate(np.where(follows, 0, at))
        by_depth = np.argsort(depth, kind="stable")
        bounds = np.cumsum(np.bincount(depth))
        for low, high in itertools.pairwise(bounds):
            now = by_depth[low:high]
            ranks[now] = self._successor(ranks[now - 1], choice[now])

    def _successor(self, ranks: Ints, choice: Ints) -> Ints:
        """The choice-th successor of an item: one of like popularity, in a topic that depends on the item."""
        world = self.world
        topic = (ranks * 7 + choice * 13 + ranks // world.topics) % world.topics
        level = (ranks // world.topics) ^ (choice & 1)
        successors: Ints = np.minimum(level * world.topics + topic, world.items - 1)
        return successors


def _times(random: np.random.Generator, owner: Ints, ends: Ints, lengths: Ints) -> Floats:
    """(T,) Unix seconds, rising inside each user: sessions of a few events, days apart, within a year."""
    count = len(owner)
    gaps = random.exponential(_SECONDS_BETWEEN, count) + 1.0
    pauses = random.random(count) < 1 / _SESSION
    gaps[pauses] += random.exponential(4 * 86_400.0, int(pauses.sum()))
    starts = ends - lengths
    gaps[starts[lengths > 0]] = 0.0
    passed = np.cumsum(gaps)
    offset = passed - np.where(lengths > 0, passed[np.minimum(starts, count - 1)], 0.0)[owner] if count else passed
    begin = random.random(len(lengths)) * 0.7 * _YEAR
    longest = np.zeros(len(lengths))
    longest[lengths > 0] = offset[(ends - 1)[lengths > 0]]
    shrink = np.minimum(1.0, (_YEAR - begin) / np.maximum(longest, 1.0))
    return np.round(_START + begin[owner] + offset * shrink[owner], 3)
