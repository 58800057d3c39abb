"""Why an item was recommended, for any source: the event of the history without which its score falls most.

A counterfactual, not a reading of weights: the history is scored again without each of its last events in turn, so it
costs as many encodings as there are events, on demand only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.runtime.base import Source

__all__ = ["responsible"]

_EVENTS = 50
"""Older events are not tried."""


def responsible(source: Source, history: npt.NDArray[np.int32], items: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """(K,) for each item the history's item whose absence lowers its score most; -1 where none does."""
    tried = np.unique(history[-_EVENTS:])
    none = np.full(len(items), -1, np.int32)
    if len(tried) == 0 or len(items) == 0 or len(tried) == len(np.unique(history)) == 1:
        return np.full(len(items), tried[0], np.int32) if len(tried) == 1 else none
    without = Jagged.from_rows([history, *(history[history != item] for item in tried)])
    asked = Jagged.from_rows([items] * len(without))
    scores = source.score(Queries(without, 1), asked).reshape(len(without), len(items))
    falls = scores[0] - scores[1:]
    return np.where(falls.max(axis=0) > 0, tried[falls.argmax(axis=0)], none).astype(np.int32)
