"""Training of click networks: batches of coded rows, the touched rows of one field table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from leanrec.features.batch import FeatureBatch, Layout
from leanrec.features.stacked import Stacked, padded
from leanrec.nn.ctr import Plan
from leanrec.nn.ctr.network import Network, Rows
from leanrec.nn.tables import make_table
from leanrec.runtime.engines.ctr import PlanEngine
from leanrec.training.judging import Watch
from leanrec.training.labelled import Labelled, RowsConfig
from leanrec.training.shuffling import shuffled
from leanrec.training.states import State, load_network, network_state, under
from leanrec.training.workers.base import Workers
from leanrec.training.workers.solo import Solo

__all__ = ["ClickBatch", "ClickBatches", "ClickOptions", "ClickTask"]

_MASK = 0xC71C


class ClickOptions(RowsConfig, frozen=True, kw_only=True):
    """How a click network learns."""

    lr: float = 1e-3
    batch: int = 1024
    epochs: int = 30
    patience: int = 2
    """Looks at validation without a better score after which training stops."""
    looks: int = 2
    """Looks at validation in an epoch: these networks can turn from learning to memorising within one."""
    l1: float = 0.0
    """Penalty on the sizes of the field vectors that a batch touches."""
    l2: float = 0.0
    """Penalty on half their squares."""
    weight_decay: float = 0.0
    """Of the dense weights, apart from the gradient (AdamW)."""
    mask: float = 0.05
    """Chance that a category is shown as unknown, so that what is unknown when serving has been learnt."""
    loss: Literal["log", "focal"] = "log"
    gamma: float = 2.0
    """Of the focal loss (Lin et al. 2017): rows that are right already count less; calibration makes up for it."""
    gate_l1: float = 0.0
    """Penalty on the sizes of the gates of fields, where there are any."""
    watch: Watch = "log_loss"
    """What validation decides by."""


@dataclass(frozen=True, slots=True)
class ClickBatch:
    """Rows to learn from at once. step: their place among those of the look."""

    rows: Labelled
    step: int

    @property
    def predictions(self) -> int:
        return len(self.rows)


class ClickBatches:
    """Rows in batches. What `Trainer` calls an epoch is a look at validation's distance from the next: one of `looks`
    parts of a pass over all rows, whose order `shuffled` draws anew for each pass.
    """

    def __init__(self, rows: Labelled, options: ClickOptions, seed: int) -> None:
        self.rows, self.options, self.seed = rows, options, seed

    @property
    def tokens(self) -> int:
        """Rows of a look; the first ones of a pass may have one more than the others."""
        return -(-len(self.rows) // self.options.looks)

    def epoch(
        self, epoch: int, start: int = 0, *, announce: Callable[[ClickBatch], None] = lambda batch: None
    ) -> Iterator[ClickBatch]:
        """The batches of a look from step `start` on."""
        options, count = self.options, len(self.rows)
        part = epoch % options.looks
        ends = np.cumsum([(count + options.looks - 1 - look) // options.looks for look in range(options.looks)])
        first, last = int(ends[part - 1]) if part else 0, int(ends[part])
        seed, step = [self.seed, epoch - part + 1], start
        left = np.empty(0, np.int64)
        for rows in shuffled(count, options.shuffle, seed, first + start * options.batch, last):
            left = np.concatenate([left, rows])
            whole = len(left) // options.batch * options.batch
            for at in range(0, whole, options.batch):
                yield self._batch(left[at : at + options.batch], step, announce)
                step += 1
            left = left[whole:]
        if len(left):
            yield self._batch(left, step, announce)

    def _batch(self, rows: npt.NDArray[np.int64], step: int, announce: Callable[[ClickBatch], None]) -> ClickBatch:
        batch = ClickBatch(self.rows.take(rows), step)
        announce(batch)
        return batch


class ClickTask:
    """A network, its field table and their optimisers: what `Trainer` trains; `engine` answers as it stands."""

    def __init__(self, plan: Plan, layout: Layout, dim: int, options: ClickOptions, seed: int) -> None:
        self.plan, self.layout, self.options, self.history = plan, layout, options, options.history
        self.stacked = Stacked.of(layout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Network(plan, dim=dim, numbers=len(layout.numbers), fields=self.stacked.fields)
        self.table = make_table("dense", self.stacked.total, dim + 1, seed=seed, options={"std": 0.01})
        weights = list(self.network.parameters())
        self._dense = torch.optim.AdamW(weights, lr=options.lr, weight_decay=options.weight_decay)
        self.workers: Workers = Solo()
        self.lr, self.grad_norm = options.lr, 0.0
        self._seed, self._steps = seed, 0

    def step(self, batch: ClickBatch) -> float:
        """One step of both optimisers; the mean loss before it."""
        rows_U, coded = self._coded(self._masked(batch.rows.batch))
        leaf_UE = self.table.gather(rows_U)
        self.network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed * 1_000_003 + self._steps)
            logits_BT = self.network(leaf_UE, coded)
        loss = self._loss(logits_BT, batch.rows)
        self._dense.zero_grad(set_to_none=True)
        (loss + self._gate_penalty()).backward()  # type: ignore[no-untyped-call]
        grad_UE, leaf = leaf_UE.grad, leaf_UE.detach()
        assert grad_UE is not None
        if self.options.l1 or self.options.l2:
            grad_UE = grad_UE + self.options.l2 * leaf + self.options.l1 * leaf.sign()
        self._dense.step()
        self.table.apply(rows_U, grad_UE, self.options.lr)
        self._steps += 1
        return float(loss.detach())

    def engine(self) -> PlanEngine:
        """What serves, with copies of the weights."""
        leaf = self.table.gather(None).detach().numpy().copy()
        plan = [msgspec.to_builtins(step) for step in self.plan]
        return PlanEngine(plan, self.layout, leaf, self.network.arrays(), history=self.history)

    def prefetch(self, batch: ClickBatch) -> None:
        """Nothing to read ahead: the table is in memory."""

    def state(self) -> State:
        """Everything an exact resume needs."""
        state: State = {"steps": np.asarray([self._steps], np.int64)}
        state |= {f"table.{name}": array for name, array in self.table.state().items()}
        return state | network_state(self.network, self._dense)

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        self._steps = int(state["steps"][0])
        self.table.load_state(under(state, "table."))
        load_network(self.network, self._dense, state)

    def keep(self, states: Sequence[State]) -> None:
        """Only these states may be loaded again."""
        self.table.keep([under(state, "table.") for state in states])

    def _loss(self, logits_BT: Tensor, rows: Labelled) -> Tensor:
        labels = torch.from_numpy(rows.labels_BT.astype(np.float32))
        loss_BT = functional.binary_cross_entropy_with_logits(logits_BT, labels, reduction="none")
        if self.options.loss == "focal":
            loss_BT = loss_BT * (1 - torch.exp(-loss_BT)) ** self.options.gamma
        if rows.weights_B is None:
            return loss_BT.mean()
        weights = torch.from_numpy(rows.weights_B)[:, None]
        return (loss_BT * weights).sum() / (weights.sum() * loss_BT.shape[1])

    def _gate_penalty(self) -> Tensor:
        gates = [value for name, value in self.network.named_parameters() if name.endswith(".gate") and value.ndim == 1]
        return self.options.gate_l1 * sum((gate.abs().sum() for gate in gates), torch.zeros(()))

    def _masked(self, batch: FeatureBatch) -> FeatureBatch:
        if not self.options.mask:
            return batch
        random = np.random.default_rng([self._seed, _MASK, self._steps])
        keep = random.random(batch.categories_BF.shape, np.float32) >= self.options.mask
        return FeatureBatch(batch.layout, batch.numbers_BF, batch.categories_BF * keep, batch.lists, batch.history)

    def _coded(self, batch: FeatureBatch) -> tuple[npt.NDArray[np.int32], Rows]:
        """The distinct table rows of a batch, and the batch in places among them."""
        stacked = self.stacked
        parts = [(batch.categories_BF + stacked.categories_C).ravel()]
        parts += [one.values + start for start, one in zip(stacked.lists, batch.lists, strict=True)]
        parts.append(stacked.numbers_M)
        mask_BL = None
        if stacked.target >= 0 and batch.history is not None:
            codes_BL, mask_BL = padded(batch.history, self.history)
            parts.append((codes_BL + np.int32(stacked.history)).ravel())
        rows_U, places = self.table.distinct(np.concatenate(parts).astype(np.int32))
        cut = [torch.from_numpy(part) for part in np.split(places, np.cumsum([len(part) for part in parts])[:-1])]
        offsets = [torch.from_numpy(np.asarray(one.offsets)) for one in batch.lists]
        lists, after = tuple(zip(cut[1:], offsets, strict=False)), 1 + len(batch.lists)
        categories_BC = cut[0].view(len(batch), -1)
        numbers = torch.from_numpy(batch.numbers_BF)
        if mask_BL is None:
            return rows_U, Rows(categories_BC, lists, cut[after], numbers)
        target, history = categories_BC[:, stacked.target], cut[after + 1].view(len(batch), -1)
        mask = torch.from_numpy(mask_BL.astype(np.float32))
        return rows_U, Rows(categories_BC, lists, cut[after], numbers, target, history, mask)
