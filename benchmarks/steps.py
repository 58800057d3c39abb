"""The training step that T1, G1 and G2 time: batches of a Zipf catalogue, leanrec's task, and the same in torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from leanrec.nn.blocks import Transformer
from leanrec.nn.packing import Packed
from leanrec.nn.tables import make_table
from leanrec.training.loader import Batch
from leanrec.training.objectives import make_objective
from leanrec.training.task import NextItem, StepOptions

__all__ = ["DIM", "Stream", "TorchStep", "leanrec_step", "step_flops", "time_steps"]

DIM, LAYERS, HEADS, HIDDEN = 64, 2, 2, 256
SEQUENCES, LENGTH, NEGATIVES, EXPONENT = 128, 50, 256, 1.05
LR = 1e-3


class Stream:
    """Batches of full sequences of items drawn by Zipf's law; which items are frequent is shuffled over the rows."""

    def __init__(self, items: int, seed: int = 0) -> None:
        self.items, self.seed = items, seed
        weight = np.arange(1, items + 1, dtype=np.float64) ** -EXPONENT
        self._cumulated = np.cumsum(weight / weight.sum())
        self._factor = next(f for f in range(int(items * 0.618) | 1, 2 * items + 2, 2) if np.gcd(f, items) == 1)

    def rows(self, ranks: np.ndarray) -> np.ndarray:
        """The row of each rank of popularity: a permutation without a table of its own."""
        return (ranks * self._factor % self.items).astype(np.int32)

    def batch(self, step: int) -> Batch:
        """The same for the same step, whoever asks."""
        random = np.random.default_rng((self.seed, step))
        ranks = np.searchsorted(self._cumulated, random.random((SEQUENCES, LENGTH + 1)))
        rows = self.rows(np.minimum(ranks, self.items - 1))
        return Batch(
            items_RL=np.ascontiguousarray(rows[:, :-1]), segment_RL=np.zeros((SEQUENCES, LENGTH), np.int64),
            position_RL=np.tile(np.arange(LENGTH), (SEQUENCES, 1)), slots_T=np.arange(SEQUENCES * LENGTH),
            targets_T=np.ascontiguousarray(rows[:, 1:]).ravel(), uniform=True,
            negatives_n=random.integers(0, self.items, NEGATIVES, dtype=np.int32),
            log_expected_n=np.full(NEGATIVES, np.log(NEGATIVES / self.items), np.float32), step=step,
        )  # fmt: skip


class Step(Protocol):
    """One training step; its loss."""

    def step(self, batch: Batch) -> float: ...


def network() -> Transformer:
    """The network of both sides, with the same fresh weights every time."""
    torch.manual_seed(0)
    return Transformer(
        block="sasrec", dim=DIM, layers=LAYERS, heads=HEADS, hidden=HIDDEN, max_length=LENGTH, dropout=0.0
    )


def leanrec_step(items: int, table: str = "dense", options: Mapping[str, Any] | None = None) -> NextItem:
    """What `leanrec train` runs for every batch."""
    return NextItem(
        network(), make_table(table, items, DIM, options=options),
        make_objective("sampled-softmax", {}, items, NEGATIVES), StepOptions(lr=LR),
    )  # fmt: skip


class TorchStep:
    """The same network over nn.Embedding with a torch optimiser on every weight.

    All rows of a batch are looked up once, which is the quickest way: one dense gradient instead of three. optimiser:
    `fused` or `default` Adam, or `sparse`: sparse gradients and SparseAdam for the table, fused Adam for the rest.
    """

    def __init__(self, items: int, optimiser: str) -> None:
        self.net = network()
        self.table = nn.Embedding(items, DIM, sparse=optimiser == "sparse", _weight=torch.empty(items, DIM))
        nn.init.normal_(self.table.weight, std=DIM**-0.5)
        settings: dict[str, Any] = {"lr": LR, "betas": (0.9, 0.98)}
        weights = list(self.net.parameters())
        self._optimisers: list[torch.optim.Optimizer]
        if optimiser == "sparse":
            self._optimisers = [
                torch.optim.SparseAdam(self.table.parameters(), **settings),
                torch.optim.Adam(weights, fused=True, **settings),
            ]
        else:
            fused = True if optimiser == "fused" else None
            self._optimisers = [torch.optim.Adam([self.table.weight, *weights], fused=fused, **settings)]

    def step(self, batch: Batch) -> float:
        for optimiser in self._optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self._optimisers:
            optimiser.step()
        return float(loss.detach())

    def _loss(self, batch: Batch) -> Tensor:
        ids = [torch.from_numpy(a).long() for a in (batch.items_RL.ravel(), batch.targets_T, batch.negatives_n)]
        inputs_TD, targets_TD, negatives_nD = self.table(torch.cat(ids)).split([len(part) for part in ids])
        packed = Packed(torch.from_numpy(batch.segment_RL), torch.from_numpy(batch.position_RL), uniform=True)
        hidden_TD = self.net(inputs_TD.view(*batch.items_RL.shape, DIM), packed).view(-1, DIM)
        positive_T = (hidden_TD * targets_TD).sum(-1)
        scores_Tn = hidden_TD @ negatives_nD.T - torch.from_numpy(batch.log_expected_n)
        scores_Tn = scores_Tn.masked_fill(ids[1][:, None] == ids[2], -torch.inf)
        return nn.functional.cross_entropy(
            torch.cat([positive_T[:, None], scores_Tn], dim=1), torch.zeros(len(positive_T), dtype=torch.int64)
        )


def step_flops() -> float:
    """Of the matrix products of one step, forward and twice that backward."""
    tokens = SEQUENCES * LENGTH
    layer = 4 * DIM * DIM + 2 * DIM * HIDDEN + LENGTH * DIM
    return 3.0 * 2.0 * tokens * (LAYERS * layer + NEGATIVES * DIM)


def time_steps(step: Step, stream: Stream, *, warm: int, timed: int) -> tuple[list[float], list[float]]:
    """Seconds and losses of `timed` steps after `warm` of them; making the batch is not part of a step."""
    seconds, losses = [], []
    for number in range(warm + timed):
        batch = stream.batch(number)
        started = time.perf_counter()
        loss = step.step(batch)
        seconds.append(time.perf_counter() - started)
        losses.append(loss)
    return seconds[warm:], losses
