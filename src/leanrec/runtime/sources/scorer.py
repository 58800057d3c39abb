"""A model of labelled rows as a source: the probability of its label for a user, a situation and each item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.features.batch import FeatureBatch
from leanrec.features.stacked import blank
from leanrec.features.tables import FeatureTables
from leanrec.runtime.base import Parts, ScoringEngine, Source
from leanrec.runtime.calibration import Calibrator
from leanrec.runtime.engines import SCORERS

__all__ = ["BLOCK", "ScoringSource"]

BLOCK = 256
"""Rows that an engine is always asked for at once: matrix products round by the number of rows, and an item must have
the same score whoever else is asked about."""


class ScoringSource(Source):
    """Scores are calibrated probabilities.

    A user that is not known, or an item without attributes, is one whose fields are missing: the probability is then
    that of anybody, or anything. task: which of the engine's outputs is asked for.
    """

    kind: ClassVar[str] = "scorer"
    personal = True

    def __init__(
        self, name: str, num_items: int, tables: FeatureTables, engine: ScoringEngine, calibrator: Calibrator,
        *, task: int = 0,
    ) -> None:  # fmt: skip
        self.name, self.num_items, self.num_users = name, num_items, tables.num_users
        self.tables, self.engine, self.calibrator, self.task = tables, engine, calibrator, task

    def search(self, queries: Queries) -> Hits:
        hits = Hits.none(len(queries), queries.k)
        every = np.arange(self.num_items, dtype=np.int32)
        shown = every if queries.allowed is None else every[queries.allowed]
        for row in range(len(queries)):
            items = shown
            if queries.exclude is not None:
                items = shown[~np.isin(shown, queries.exclude[row])]
            raw_N = self._raw(queries.take(np.array([row])), Jagged.from_rows([items]))
            scores_N = self.calibrator(raw_N)
            best = _best(scores_N, items, queries.k)
            hits.items_BK[row, : len(best)] = items[best]
            hits.scores_BK[row, : len(best)] = scores_N[best]
        return hits

    def score(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        return self.calibrator(self._raw(queries, items))

    def raw(self, batch: FeatureBatch) -> npt.NDArray[np.float32]:
        """(B,) raw scores of rows that are features already, block by block."""
        out_B = np.empty(len(batch), np.float32)
        for start in range(0, len(batch), BLOCK):
            rows = np.minimum(np.arange(start, start + BLOCK), len(batch) - 1)
            stop = min(start + BLOCK, len(batch))
            out_B[start:stop] = self.engine.raw(batch.take(rows))[: stop - start, self.task]
        return out_B

    def _raw(self, queries: Queries, items: Jagged) -> npt.NDArray[np.float32]:
        return self.raw(self.tables.pairs(queries, items))

    def config(self) -> dict[str, Any]:
        return {
            "items": self.num_items, "task": self.task, "tables": self.tables.config(),
            "engine": {"kind": self.engine.kind, "config": self.engine.config()},
            "calibration": self.calibrator.config(),
        }  # fmt: skip

    def parts(self) -> Parts:
        own = {"engine": self.engine.tensors(), "calibration": self.calibrator.tensors()}
        return {name: part for name, part in {**self.tables.parts(), **own}.items() if part}

    @classmethod
    def load(cls, name: str, config: Mapping[str, Any], parts: Parts) -> Self:
        try:
            tables = FeatureTables.load(config["tables"], parts)
            kind = SCORERS[config["engine"]["kind"]]
            engine = kind.load(config["engine"]["config"], parts["engine"], tables.space.layout)
            calibrator = Calibrator.load(config["calibration"], parts.get("calibration", {}))
            task, num_items = config["task"], config["items"]
            if type(task) is not int or not 0 <= task < engine.raw(blank(tables.space.layout, 1)).shape[1]:
                raise ValueError(f"task {task!r}")
            if num_items != max(tables.num_items, 1):  # rows as they were logged name no items
                raise ValueError(f"{num_items} items, features of {tables.num_items}")
        except ConfigError as error:
            raise BundleError(f"{error}: update leanrec, or write the bundle again") from error
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(f"the source {name!r} is broken ({error}): make the bundle again") from error
        return cls(name, num_items, tables, engine, calibrator, task=task)


def _best(scores_N: npt.NDArray[np.float32], items: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.int64]:
    """Places of the k highest scores, best first, equal ones by row."""
    if k < len(scores_N):
        edge = np.partition(scores_N, len(scores_N) - k)[len(scores_N) - k]
        places = np.flatnonzero(scores_N >= edge)
    else:
        places = np.arange(len(scores_N))
    order: npt.NDArray[np.int64] = places[np.lexsort((items[places], -scores_N[places]))][:k]
    return order
