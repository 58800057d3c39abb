"""Exponential moving average of all weights, at the cost of the rows a step touches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.rows import average_rows, kept_share

__all__ = ["WeightAverage"]

F32 = npt.NDArray[np.float32]


class WeightAverage:
    """average <- decay * average + (1 - decay) * weight after every step (Polyak averaging).

    The decay is smaller at first, see kernels.rows.kept_share.

    A row that no step touches keeps its value, so its average comes closer by a power of the decay that is made up for
    when the row is next touched or read: exact, without visiting the table every step.
    """

    def __init__(self, dense: Mapping[str, F32], table_ND: F32, decay: float) -> None:
        self.decay = decay
        self._dense = {name: np.array(value) for name, value in dense.items()}
        self._table = table_ND.copy()
        self._seen = np.zeros(len(table_ND), np.int64)

    def before(self, table_ND: F32, rows_U: npt.NDArray[np.int32], step: int) -> None:
        """Bring the rows that step number `step` is about to change up to the step before it."""
        average_rows(self._table, self._seen, table_ND, rows_U, self.decay, step - 1)

    def after(self, dense: Mapping[str, F32], table_ND: F32, rows_U: npt.NDArray[np.int32], step: int) -> None:
        """Take in the weights after step number `step`."""
        average_rows(self._table, self._seen, table_ND, rows_U, self.decay, step)
        kept = kept_share(self.decay, step - 1, step)
        for name, value in dense.items():
            average = self._dense[name]
            if value.dtype == np.float32:
                average *= np.float32(kept)
                average += np.float32(1.0 - kept) * value
            else:
                average[...] = value

    def dense(self) -> dict[str, F32]:
        """Averages of the network's arrays."""
        return self._dense

    def table(self, table_ND: F32, step: int) -> F32:
        """(N, D) averages of all rows after step number `step`."""
        average_rows(self._table, self._seen, table_ND, np.arange(len(table_ND), dtype=np.int32), self.decay, step)
        return self._table

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Enough for an exact resume."""
        return {"table": self._table, "seen": self._seen, **{f"net.{k}": v for k, v in self._dense.items()}}

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        self._table[:], self._seen[:] = state["table"], state["seen"]
        for name, value in self._dense.items():
            value[...] = state[f"net.{name}"]
