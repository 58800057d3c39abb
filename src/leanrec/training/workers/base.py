"""The contract of workers: what a training step asks of the processes that share it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config

if TYPE_CHECKING:
    from torch import Tensor, nn

    from leanrec.nn.tables.base import Table
    from leanrec.training.loader import Batch

__all__ = ["Rows", "Workers", "WorkersConfig"]

Rows = npt.NDArray[np.int32]


class WorkersConfig(Config, frozen=True, kw_only=True):
    """How several workers share a run; one worker alone ignores it."""

    parallel: str = "ddp"
    """Dense weights: `ddp` (all of them at each worker), `fsdp` (a part at each), `tensor` (wide layers split)."""
    gradient_compression: str = "none"
    """Of what ddp sends: `none`, `fp16`, `int8` or `powersgd`."""
    local_steps: int = 1
    """Steps between averages of the dense weights; 1 averages gradients at every step."""
    table_placement: str = "replicated"
    """`replicated` (each worker keeps it), `sharded` (row r lives on worker r mod W) or `torchrec` (TorchRec deals)."""
    table_updates: str = "sync"
    """`async` overlaps the exchange of row gradients with the next step; rows are then one step stale."""


class Workers(ABC):
    """W processes, of which this one is `rank`; all of them call the same methods in the same order.

    Every worker is given the same global batch and takes its part. What comes out, losses and weights, is what one
    worker with the whole batch would have, up to the order of sums.
    """

    rank: int = 0
    world: int = 1
    lane: int = 0
    """Mixed into the seed of dropout: workers with different parts of a batch draw different masks."""
    uniform: bool = True
    """Whether `wrap` leaves dense weights of one kind, which one fused loop can update."""
    poll_every: int = 1
    """Steps between questions that cost a message, such as whether it is time to save."""

    @abstractmethod
    def __init__(self, config: WorkersConfig) -> None:
        """As configured; choices that exclude each other are a ConfigError."""

    @abstractmethod
    def wrap(self, net: nn.Module) -> nn.Module:
        """The module to call forward on; may split the parameters of `net`. Call it before optimisers are made."""

    @abstractmethod
    def table(self, num_rows: int, make: Callable[[int], Table]) -> Table:
        """A table of so many rows, placed as configured; its fresh rows are those of `make(num_rows)`."""

    @abstractmethod
    def part(self, batch: Batch) -> tuple[Batch, float]:
        """This worker's part, and the weight of its mean loss: 1 on average over workers."""

    @abstractmethod
    def accumulating(self, more: bool) -> AbstractContextManager[Any]:
        """Around a forward and backward; `more` will follow before the optimiser steps."""

    @abstractmethod
    def announce(self, rows_U: Rows | None) -> None:
        """The rows that this step touches, said before forward so that the others hear of it meanwhile."""

    @abstractmethod
    def mean(self, loss: float) -> Callable[[], float]:
        """Starts averaging the weighted losses of all workers; call what is returned for the result."""

    @abstractmethod
    def merge(self, rows_U: Rows | None, grad_UD: Tensor) -> tuple[Rows | None, Tensor]:
        """Rows and summed gradients to apply here, of all workers (of the step before with asynchronous updates)."""

    @abstractmethod
    def drain(self) -> tuple[Rows | None, Tensor] | None:
        """What `merge` still holds back, to be applied before weights are looked at."""

    @abstractmethod
    def resident(self, table: Table) -> npt.NDArray[np.float32]:
        """(M, D) the rows of the table that live here: all, unless it is sharded."""

    @abstractmethod
    def resident_rows(self, rows_U: Rows) -> Rows:
        """The places among the resident rows of rows that `merge` gave."""

    @abstractmethod
    def join(self, array_M: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(N, ...) from what each worker has for its resident rows."""

    @abstractmethod
    def mine(self, array_N: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The inverse of `join`."""

    @abstractmethod
    def norm(self, grads: Iterable[Tensor], grad_UD: Tensor) -> float:
        """Of the whole gradient, dense and merged rows."""

    @abstractmethod
    def stepped(self, net: nn.Module) -> None:
        """After each optimiser step: local steps average the weights when they are due."""

    @abstractmethod
    def settle(self, weights: Iterable[Tensor]) -> None:
        """Make the dense weights (and averages) of all workers one, in place, before they are looked at."""

    @abstractmethod
    def whole(self, parameter: Tensor, value: Tensor) -> npt.NDArray[np.float32]:
        """All of `value`, which is `parameter` or stands beside it (a moment), as one worker alone would hold it."""

    @abstractmethod
    def place(self, parameter: Tensor, value: npt.NDArray[Any]) -> Tensor:
        """The inverse of `whole`."""

    @abstractmethod
    def agree(self, value: float) -> float:
        """The first worker's value, for all; the others may give anything."""
