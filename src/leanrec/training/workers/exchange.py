"""Row gradients of a table that every worker keeps whole: all get all of them, and make the same update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from leanrec.kernels.rows import add_rows
from leanrec.nn.tables.base import Table

__all__ = ["Replicas"]

I32 = npt.NDArray[np.int32]
Finish = Callable[[], tuple[I32 | None, Tensor]]


class Replicas:
    """What the workers' copies of one table tell each other: as many bytes as rows are touched."""

    def __init__(self, table: Table) -> None:
        self.table, self.world = table, dist.get_world_size()
        self._counts: list[Tensor] = []
        self._counting: Any = None

    def announce(self, rows_U: I32 | None) -> None:
        """Say how many rows are to come, during forward and backward, so that nobody has to wait for it later."""
        if rows_U is None:
            return
        self._counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        self._counting = dist.all_gather(self._counts, torch.tensor([len(rows_U)]), async_op=True)

    def exchange(self, rows_U: I32 | None, grad_UD: Tensor) -> Finish:
        """Start sending; what is returned waits, and gives the distinct rows of all workers with summed gradients."""
        if rows_U is None:
            work = dist.all_reduce(grad_UD, async_op=True)
            return lambda: (work.wait(), (None, grad_UD))[1]
        self._counting.wait()
        counts = [int(count) for count in self._counts]
        dim = grad_UD.shape[1]
        sent = torch.empty(max(counts), dim + 1)  # the last column holds the bits of the row numbers
        sent[: len(rows_U), :dim] = grad_UD
        sent.view(torch.int32)[: len(rows_U), dim] = torch.from_numpy(rows_U)
        received = [torch.empty_like(sent) for _ in counts]
        work = dist.all_gather(received, sent, async_op=True)

        def finish() -> tuple[I32, Tensor]:
            work.wait()
            pieces = [piece[:count] for piece, count in zip(received, counts, strict=True)]
            rows_V = np.concatenate([piece.view(torch.int32)[:, dim].numpy() for piece in pieces])
            rows_M, place_V = self.table.distinct(rows_V)
            summed_MD, start = np.zeros((len(rows_M), dim), np.float32), 0
            for piece in pieces:
                add_rows(piece.numpy(), place_V[start : start + len(piece)], summed_MD)
                start += len(piece)
            return rows_M, torch.from_numpy(summed_MD)

        return finish
