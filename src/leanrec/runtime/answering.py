"""How one process answers: the settings that a bundle recommends, and the answers that are kept meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from threading import Lock

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.nouns import Hits, Queries
from leanrec.kernels.blas import limit_blas
from leanrec.runtime.base import Source

__all__ = ["MOST_BATCH", "MOST_KEPT", "Answering", "KeptAnswers"]

MOST_BATCH, MOST_KEPT = 4096, 1_000_000

_Answer = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.int8] | None]


class Answering(Config, frozen=True, kw_only=True):
    """What a bundle recommends, and a server does unless it is told otherwise."""

    max_batch: int = 64
    """Questions answered together, of those that wait."""
    threads: int = 0
    """Of a scan of the catalogue; 0: one for each core of the process. How an encoder runs stands elsewhere."""
    pinned: bool = False
    """The engine thread stays on the last of the process's cores; other threads go where the system puts them. For one
    process a machine, or processes that were given cores of their own (taskset, cpuset)."""
    kept_answers: int = 0
    """Newest answers that are kept for whoever asks exactly the same; 0 keeps none."""

    def __post_init__(self) -> None:
        for name, least, most in (("max_batch", 1, MOST_BATCH), ("threads", 0, 1024), ("kept_answers", 0, MOST_KEPT)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} lies from {least} to {most:,}, not {getattr(self, name)}")

    def settle(self) -> None:
        """Make the calling thread answer so. Matrix products use one thread in the whole process."""
        limit_blas(1)
        if self.threads or self.pinned:
            import numba  # only here: a bundle may need none of it

            most = numba.get_num_threads()
            numba.set_num_threads(min(self.threads or most, most))
        if self.pinned:  # now that the threads of loops have started: those that start later would share the core
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    def __str__(self) -> str:
        parts = [f"at most {self.max_batch} questions together"]
        parts += [f"scans in {self.threads} thread{'s' * (self.threads > 1)}"] * (self.threads > 0)
        parts += ["the engine thread pinned to a core"] * self.pinned
        parts += [f"{self.kept_answers:,} answers kept"] * (self.kept_answers > 0)
        return ", ".join(parts)


class KeptAnswers:
    """The newest answers of one source, by all that they depend on. Any thread may ask.

    An answer is found again only for the same history, exclusions, user and k. Questions with a filter, times or a
    situation always go to the source. An answer takes about 200 bytes and 8 for each of its items.
    """

    def __init__(self, capacity: int) -> None:
        assert capacity >= 1, "something to keep"
        self.capacity, self.found, self.missed = capacity, 0, 0
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._answers)

    def forget(self) -> None:
        """Keep nothing of what was answered until now."""
        with self._lock:
            self._answers.clear()

    def search(self, source: Source, queries: Queries) -> Hits:
        """What `source.search` answers, of which only what is not known is asked for."""
        if queries.allowed is not None or queries.times is not None or queries.context is not None:
            return source.search(queries)
        keys = [_key(queries, row) for row in range(len(queries))]
        with self._lock:
            known = [self._answers.get(key) for key in keys]
            for key, answer in zip(keys, known, strict=True):
                if answer is not None:
                    self._answers.move_to_end(key)
        asked = np.array([row for row, answer in enumerate(known) if answer is None], np.int64)
        self.found, self.missed = self.found + len(keys) - len(asked), self.missed + len(asked)
        if not len(asked):
            return _together([answer for answer in known if answer is not None])
        fresh = source.search(queries if len(asked) == len(keys) else queries.take(asked))
        made = [_row(fresh, row) for row in range(len(asked))]
        with self._lock:
            for row, answer in zip(asked.tolist(), made, strict=True):
                self._answers[keys[row]] = answer
            while len(self._answers) > self.capacity:
                self._answers.popitem(last=False)
        if len(asked) == len(keys):
            return fresh
        remaining = iter(made)
        return _together([next(remaining) if answer is None else answer for answer in known])


def _key(queries: Queries, row: int) -> bytes:
    """128 bits of what an answer depends on: no two questions that anybody can find share them."""
    excluded = b"" if queries.exclude is None else queries.exclude[row].astype(np.int32).tobytes()
    user = -1 if queries.users is None else int(queries.users[row])
    head = np.array([queries.k, user, len(excluded), queries.exclude is None], np.int64).tobytes()
    history = queries.histories[row].astype(np.int32).tobytes()
    return hashlib.blake2b(head + excluded + history, digest_size=16).digest()


def _row(hits: Hits, row: int) -> _Answer:
    brought = None if hits.brought_BK is None else hits.brought_BK[row].copy()
    return hits.items_BK[row].copy(), hits.scores_BK[row].copy(), brought


def _together(answers: list[_Answer]) -> Hits:
    brought = [one for _, _, one in answers if one is not None]
    return Hits(
        np.stack([items for items, _, _ in answers]),
        np.stack([scores for _, scores, _ in answers]),
        np.stack(brought) if brought else None,
    )
