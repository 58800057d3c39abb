"""Arrays of the rows of an index that grow at the end: M more rows cost M, but for the times when room runs out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Growth"]

Arrays = Mapping[str, npt.NDArray[Any]]


class Growth:
    """Room for more rows behind arrays; views of the front are handed out and stay as they are.

    So an index that was grown from another shares its rows, and the other goes on answering as before.
    """

    def __init__(self, arrays: Arrays, size: int, room: int, units: Mapping[str, int]) -> None:
        """Copy arrays of `size` rows, with room for `room` rows. units: rows that share an entry, by array; else 1."""
        self.size, self.room = size, room
        self._arrays = {}
        for name, array in arrays.items():
            self._arrays[name] = np.empty((-(-room // units.get(name, 1)), *array.shape[1:]), array.dtype)
            self._arrays[name][: len(array)] = array

    @classmethod
    def extended(
        cls, growth: Growth | None, arrays: Arrays, more: Arrays, units: Mapping[str, int]
    ) -> tuple[Growth, dict[str, npt.NDArray[Any]]]:
        """Arrays with `more` behind them, in the room of `growth` where the arrays are all of its rows and more fit.

        "items_ND" has one entry a row. Where rows share entries, `more` begins with the entry that is not full yet.
        """
        size = len(arrays["items_ND"])
        total = size + len(more["items_ND"])
        if growth is None or growth.size != size or total > growth.room:
            growth = cls(arrays, size, total + total // 2, units)
        for name, array in more.items():
            start = size // units.get(name, 1)
            growth._arrays[name][start : start + len(array)] = array
        growth.size = total
        return growth, {name: array[: -(-total // units.get(name, 1))] for name, array in growth._arrays.items()}
