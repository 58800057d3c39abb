"""Training of click networks: batches of coded rows, the touched rows of one field table, early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from leanrec.core.errors import LeanrecError
from leanrec.features.batch import FeatureBatch, Layout
from leanrec.features.stacked import Stacked, padded
from leanrec.nn.ctr import Plan
from leanrec.nn.ctr.network import Network, Rows
from leanrec.nn.tables import make_table
from leanrec.runtime.engines.ctr import PlanEngine
from leanrec.training.judging import Watch, judge
from leanrec.training.labelled import Labelled, RowsConfig

__all__ = ["ClickOptions", "ClickTask", "Found", "search_length"]

_UNJUDGED = 2
"""Epochs at most where no validation row says when to stop."""


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


class ClickTask:
    """A network, its field table and their optimisers; `step` learns from rows, `engine` answers as it stands."""

    def __init__(self, plan: Plan, layout: Layout, dim: int, options: ClickOptions, seed: int) -> None:
        self.plan, self.layout, self.options, self.history = plan, layout, options, options.history
        self.stacked = Stacked.of(layout)
        self._generator = np.random.default_rng([seed, 0xC71C])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Network(plan, dim=dim, numbers=len(layout.numbers), fields=self.stacked.fields)
        self.table = make_table("dense", self.stacked.total, dim + 1, seed=seed, options={"std": 0.01})
        weights = list(self.network.parameters())
        self._dense = torch.optim.AdamW(weights, lr=options.lr, weight_decay=options.weight_decay)
        self._seed, self._steps = seed, 0

    def step(self, rows: Labelled) -> float:
        """One step of both optimisers on a batch; its mean loss."""
        batch = self._masked(rows.batch)
        rows_U, coded = self._coded(batch)
        leaf_UE = self.table.gather(rows_U)
        self.network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed * 1_000_003 + self._steps)
            logits_BT = self.network(leaf_UE, coded)
        loss = self._loss(logits_BT, rows)
        self._dense.zero_grad(set_to_none=True)
        (loss + self._gate_penalty()).backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise LeanrecError(f"the loss is {value} after {self._steps} steps: lower lr ({self.options.lr:g})")
        grad_UE, leaf = leaf_UE.grad, leaf_UE.detach()
        assert grad_UE is not None
        if self.options.l1 or self.options.l2:
            grad_UE = grad_UE + self.options.l2 * leaf + self.options.l1 * leaf.sign()
        self._dense.step()
        self.table.apply(rows_U, grad_UE, self.options.lr)
        self._steps += 1
        return value

    def engine(self) -> PlanEngine:
        """What serves, with copies of the weights."""
        leaf = self.table.gather(None).detach().numpy().copy()
        plan = [msgspec.to_builtins(step) for step in self.plan]
        return PlanEngine(plan, self.layout, leaf, self.network.arrays(), history=self.history)

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
        keep = self._generator.random(batch.categories_BF.shape, np.float32) >= self.options.mask
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


@dataclass(frozen=True, slots=True)
class Found:
    """looks: how many looks' worth of training was best. score: of the best, larger is better; NaN without one."""

    engine: PlanEngine
    looks: int
    score: float


def search_length(
    task: ClickTask, train: Labelled, valid: Labelled | None, *, seed: int, deadline: float | None = None,
    looks: int | None = None, on_score: Callable[[int, float], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Found:  # fmt: skip
    """Train until validation stops getting better, or for exactly `looks`; the best engine.

    deadline: `time.monotonic()` after which the look under way is the last. A look is a part of an epoch.
    """
    options = task.options
    judged = valid is not None and len(valid) > 0 and looks is None
    epochs = options.epochs if judged else min(options.epochs, _UNJUDGED)
    most = epochs * options.looks if looks is None else looks
    best, found = -math.inf, Found(task.engine(), 0, math.nan)
    parts: list[npt.NDArray[np.int64]] = []
    for look in range(1, most + 1):
        if not parts:
            order = np.random.default_rng([seed, look]).permutation(len(train))
            parts = np.array_split(order, options.looks)
        loss = _run(task, train, parts.pop(0))
        late = deadline is not None and time.monotonic() > deadline
        if not judged:
            if late or look == most:
                return Found(task.engine(), look, math.nan)
            continue
        assert valid is not None
        engine = task.engine()
        score = judge(engine, valid, options.watch)
        say(f"epoch {look / options.looks:g}: loss {loss:.4f}, validation {options.watch} {abs(score):.4f}")
        if score > best:
            best, found = score, Found(engine, look, score)
        if on_score is not None:
            on_score(look, score)
        if late or look - found.looks >= options.patience:
            break
    return found


def _run(task: ClickTask, train: Labelled, order: npt.NDArray[np.int64]) -> float:
    losses = [
        task.step(train.take(order[start : start + task.options.batch]))
        for start in range(0, len(order), task.options.batch)
    ]
    return float(np.mean(losses)) if losses else math.nan
