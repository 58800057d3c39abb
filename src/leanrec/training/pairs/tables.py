"""One table of vectors, users first, then items, with lazy Adam; and the same propagated over the graph of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.fresh import fresh_range
from leanrec.kernels.rows import adam_rows, distinct_rows, gather_rows
from leanrec.kernels.spectrum import Graph

__all__ = ["GraphTable", "PlainTable"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
State = dict[str, npt.NDArray[Any]]
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class PlainTable:
    """Vectors are the rows; a step costs what the batch touches. Moments of untouched rows stand still (lazy Adam)."""

    def __init__(self, rows: int, dim: int, *, lr: float, std: float, seed: int) -> None:
        self.values_MD = np.empty((rows, dim), np.float32)
        fresh_range(self.values_MD, 0, seed, std)
        self._mean_MD, self._square_MD = np.zeros_like(self.values_MD), np.zeros_like(self.values_MD)
        self._slots_M = np.full(rows, -1, np.int32)
        self.lr, self.steps = lr, 0

    def distinct(self, rows_S: I32) -> tuple[I32, npt.NDArray[np.int64]]:
        """The distinct rows, and where each of rows_S is among them."""
        return distinct_rows(rows_S, self._slots_M)

    def gather(self, rows_V: I32) -> F32:
        """(V, D) a copy of the vectors."""
        out_VD = np.empty((len(rows_V), self.values_MD.shape[1]), np.float32)
        gather_rows(self.vectors(), rows_V, out_VD)
        return out_VD

    def vectors(self) -> F32:
        """(M, D) of all rows, not to be written to."""
        return self.values_MD

    def apply(self, rows_V: I32, grad_VD: F32) -> None:
        """One step of Adam by the gradient of the vectors of distinct rows."""
        self.steps += 1
        self._adam(rows_V, grad_VD)

    def _adam(self, rows_V: I32, grad_VD: F32) -> None:
        adam_rows(
            self.values_MD, rows_V, self._mean_MD, self._square_MD, rows_V, grad_VD,
            self.lr, *_BETAS, _EPSILON, self.steps,
        )  # fmt: skip

    def state(self) -> State:
        return {
            "values": self.values_MD, "mean": self._mean_MD, "square": self._square_MD,
            "steps": np.asarray([self.steps], np.int64),
        }  # fmt: skip

    def load_state(self, state: State) -> None:
        self.values_MD[:], self._mean_MD[:], self._square_MD[:] = state["values"], state["mean"], state["square"]
        self.steps = int(state["steps"][0])


class GraphTable(PlainTable):
    """Vectors are the mean of the rows and of their propagation over 1..layers edges (LightGCN, arXiv:2002.02126).

    The propagation is symmetric, so gradients go back through the same product; all rows are stepped. decay: weight of
    the rows' squares, by row and step.
    """

    def __init__(self, graph: Graph, dim: int, *, layers: int, decay: float, **options: Any) -> None:
        super().__init__(len(graph.degrees_M), dim, **options)
        self.graph, self.layers, self.decay = graph, layers, decay
        self._buffers = (np.empty_like(self.values_MD), np.empty_like(self.values_MD))
        self._current: F32 | None = None

    def vectors(self) -> F32:
        if self._current is None:
            self._current = self.propagated(self.values_MD, self.layers)
        return self._current

    def propagated(self, rows_MD: F32, layers: int) -> F32:
        """(M, D) the sum over 0..layers edges, divided by the layers of the model and one."""
        total_MD, source_MD = rows_MD.copy(), rows_MD
        for layer in range(layers):
            target_MD = self._buffers[layer % 2]
            self.graph.product(source_MD, target_MD, total_MD)
            source_MD = target_MD
        total_MD *= np.float32(1 / (self.layers + 1))
        return total_MD

    def apply(self, rows_V: I32, grad_VD: F32) -> None:
        self.steps += 1
        grad_MD = np.zeros_like(self.values_MD)
        grad_MD[rows_V] = grad_VD
        grad_MD = self.propagated(grad_MD, self.layers)
        if self.decay:
            grad_MD += np.float32(self.decay) * self.values_MD
        self._adam(np.arange(len(grad_MD), dtype=np.int32), grad_MD)
        self._current = None

    def load_state(self, state: State) -> None:
        super().load_state(state)
        self._current = None
