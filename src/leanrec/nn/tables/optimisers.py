"""Optimisers that step on the rows a batch touches, with a state of their own per row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import ConfigError
from leanrec.core.registry import nearest
from leanrec.kernels.rows import adagrad_rows, adam_rows, sgd_rows
from leanrec.nn.tables.base import TableOptions

__all__ = ["OPTIMISERS", "RowOptimiser", "make_optimiser"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


class RowOptimiser(ABC):
    """State of N rows, float32, and the step that changes some of them."""

    widths: ClassVar[dict[str, int | None]]
    """Name of each array of the state -> values a row; None is D."""

    def __init__(self, num_rows: int, dim: int, config: TableOptions) -> None:
        self.config, self.dim = config, dim
        self.moments: dict[str, F32] = {
            name: np.zeros((num_rows, dim if width is None else width), np.float32)
            for name, width in self.widths.items()
        }
        self.step = 0
        """Steps so far, of the whole table: bias correction goes by it."""

    @abstractmethod
    def update(self, weight_MD: F32, at_U: I32, rows_U: I32, grad_UD: F32, lr: float) -> None:
        """Step row `rows[u]`, whose value stands at `weight[at[u]]`, with `grad[u]`. The caller counts `step`."""

    @property
    @final
    def nbytes(self) -> int:
        return sum(moment.nbytes for moment in self.moments.values())

    @final
    def grow(self, num_rows: int) -> None:
        """More rows at the end, with a state of zeros."""
        for name, moment in self.moments.items():
            more = np.zeros((num_rows - len(moment), moment.shape[1]), np.float32)
            self.moments[name] = np.concatenate([moment, more])

    @final
    def forget(self, rows_E: I32) -> None:
        """Zeros as the state of these rows."""
        for moment in self.moments.values():
            moment[rows_E] = 0.0

    @final
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Views of the moments, and the number of steps."""
        return {"step": np.asarray([self.step], np.int64), **self.moments}

    @final
    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        self.step = int(state["step"][0])
        for name, moment in self.moments.items():
            moment[:] = state[name]


class LazyAdam(RowOptimiser):
    """Adam whose moments of untouched rows stand still (torch.optim.SparseAdam): an approximation of Adam.

    Where every row is touched at every step, as under full softmax, it is Adam.
    """

    widths: ClassVar[dict[str, int | None]] = {"mean": None, "square": None}

    def update(self, weight_MD: F32, at_U: I32, rows_U: I32, grad_UD: F32, lr: float) -> None:
        c, mean, square = self.config, self.moments["mean"], self.moments["square"]
        adam_rows(weight_MD, at_U, mean, square, rows_U, grad_UD, lr, c.beta1, c.beta2, c.eps, self.step)


class RowwiseAdagrad(RowOptimiser):
    """Adagrad with one accumulator a row, the mean square of its gradients (DLRM's): exact by touched rows."""

    widths: ClassVar[dict[str, int | None]] = {"sums": 1}

    def update(self, weight_MD: F32, at_U: I32, rows_U: I32, grad_UD: F32, lr: float) -> None:
        adagrad_rows(weight_MD, at_U, self.moments["sums"][:, 0], rows_U, grad_UD, lr, self.config.eps)


class SGD(RowOptimiser):
    """Plain gradient descent: exact by touched rows, and without a state."""

    widths: ClassVar[dict[str, int | None]] = {}

    def update(self, weight_MD: F32, at_U: I32, rows_U: I32, grad_UD: F32, lr: float) -> None:
        sgd_rows(weight_MD, at_U, grad_UD, lr)


OPTIMISERS: dict[str, type[RowOptimiser]] = {"lazy-adam": LazyAdam, "rowwise-adagrad": RowwiseAdagrad, "sgd": SGD}


def make_optimiser(num_rows: int, dim: int, config: TableOptions) -> RowOptimiser:
    """The optimiser that the options name, or a ConfigError naming the nearest."""
    name = config.optimiser
    if name not in OPTIMISERS:
        raise ConfigError(f"unknown table optimiser {name!r}{nearest(name, list(OPTIMISERS))}")
    return OPTIMISERS[name](num_rows, dim, config)
