"""Next-item prediction as one training step: packed batch in, loss out, network and touched rows updated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.errors import ConfigError
from leanrec.nn.packing import Packed
from leanrec.nn.tables.base import Table
from leanrec.nn.text.base import ItemText
from leanrec.training.augment import contrast
from leanrec.training.averaging import WeightAverage
from leanrec.training.loader import Batch
from leanrec.training.objectives.base import Objective, Predictions
from leanrec.training.profile import moved, stage, staged
from leanrec.training.schedules import rate_at
from leanrec.training.soft import soft_loss
from leanrec.training.states import under
from leanrec.training.workers.base import Workers
from leanrec.training.workers.solo import Solo

__all__ = ["NextItem", "StepOptions"]

Rows = npt.NDArray[np.int32]
_BY_ROW = ("table", "seen")
"""What of the moving average's state has an entry for each row of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How a step learns, apart from network, table and objective."""

    lr: float
    warmup: int = 0
    """Steps over which the learning rate rises."""
    schedule: str = "constant"
    total_steps: int = 1
    """At which a schedule that ends is at its end."""
    weight_decay: float = 0.0
    clip: float = 0.0
    """Largest norm of the gradient of network and touched rows together; 0 leaves it as it is."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other."""
    ema: float = 0.0
    """Decay of the moving average of all weights that validation and the result use; 0 is off."""
    contrastive: float = 0.0
    """What the contrastive loss of the batch's views counts for; `temperature` is its own."""
    temperature: float = 0.2
    soft: float = 0.0
    """What the loss against the batch's soft labels counts for, of 1; the usual loss counts for the rest."""
    precision: str = "float32"
    device: str = "cpu"
    seed: int = 0


class NextItem:
    """A network over item vectors, the table those come from, an objective, and the optimisers of both.

    Dense weights are updated by AdamW, table rows by the table's own optimiser at the same learning rate. workers:
    those who share every step; the table is one that they placed. texts: what makes item vectors of the table's rows,
    trained as a part of the network; None takes the rows as they are.
    """

    def __init__(
        self, net: nn.Module, table: Table, objective: Objective, options: StepOptions, workers: Workers | None = None,
        texts: ItemText | None = None,
    ) -> None:  # fmt: skip
        if texts is not None:
            net.add_module("texts", texts)
        self.net, self.table, self.objective, self.options = net.to(options.device), table, objective, options
        self.texts = texts
        self.workers = workers or Solo()
        self._forward = self.workers.wrap(self.net)
        self._adam = torch.optim.AdamW(
            _groups(net, texts),
            lr=options.lr,
            betas=(0.9, 0.98),
            weight_decay=options.weight_decay,
            fused=self.workers.uniform,
            foreach=False,
        )
        self._scaler = torch.amp.GradScaler(options.device, enabled=options.precision == "float16")
        self._cast = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(options.precision)
        self.steps = 0
        self.lr = 0.0
        """Of the last step, as `grad_norm` where clipping measured it."""
        self.grad_norm = 0.0
        self._average: WeightAverage | None = None
        if options.ema:
            if not np.shares_memory(self.workers.resident(table), self.workers.resident(table)):
                raise ConfigError("ema needs a table whose rows stand in memory: use --set table=dense, or --set ema=0")
            self._average = WeightAverage(self._dense(), self.workers.resident(table), options.ema)

    @staged("rest of a step")
    def step(self, batch: Batch) -> float:
        """Learn from one batch; its mean loss."""
        # dropout depends on (seed, step) alone, so a resumed run draws what an uninterrupted one would
        torch.manual_seed((self.options.seed << 32) ^ (self.workers.lane << 24) ^ self.steps)
        self.steps += 1
        batch, weight = self.workers.part(batch)
        leaf, rows, places = self._look_up(batch)
        self.workers.announce(rows)
        self._adam.zero_grad(set_to_none=True)
        total = 0.0
        if batch.views is not None:
            with self.workers.accumulating(True):
                loss = self.options.contrastive * self._contrast(batch.views, self._scale(leaf, rows), places[3])
                self._backward(loss)
            total += float(loss.detach())
        parts = list(self._parts(batch, places))
        for at, (part, inputs_RL, targets_T, soft_TM) in enumerate(parts, start=1):
            with self.workers.accumulating(at < len(parts)):
                share = weight * len(part.targets_T) / len(batch.targets_T)
                scaled = self._scale(leaf, rows)
                loss = self._loss(part, scaled, inputs_RL, targets_T, soft_TM, places[2]) * share
                if self.texts is not None and (more := self.texts.penalty(leaf, self._rows(rows))) is not None:
                    loss = loss + more * share
                self._backward(loss)
            total += float(loss.detach())
        mean = self.workers.mean(total)
        self._update(leaf, rows)
        return mean()

    @staged("backward")
    def _backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    @staged("look rows up")
    def _look_up(self, batch: Batch) -> tuple[Tensor, Rows | None, list[Tensor]]:
        """The leaf, its rows, and where inputs, targets, negatives, inputs of views and teachers' items stand in it."""
        views = np.empty((0, 0), np.int32) if batch.views is None else batch.views.items_RL
        # a hidden input stands on row 0, as an empty slot does, and its vector is replaced
        soft = np.empty((0, 0), np.int32) if batch.soft is None else batch.soft.items_TM
        asked = [np.maximum(batch.items_RL, 0), batch.targets_T, batch.negatives_n, np.maximum(views, 0), soft]
        if self.objective.full:
            places = [self._to(torch.from_numpy(rows.astype(np.int64))) for rows in asked]
            return self.table.gather(None), None, places
        rows, inverse = self.table.distinct(np.concatenate([rows.ravel() for rows in asked]))
        split = torch.split(self._to(torch.from_numpy(inverse)), [rows.size for rows in asked])
        return self.table.gather(rows), rows, [at.view(a.shape) for at, a in zip(split, asked, strict=True)]

    def _parts(self, batch: Batch, places: list[Tensor]) -> Iterator[tuple[Batch, Tensor, Tensor, Tensor]]:
        """The batch in `accumulate` parts of whole rows, with the places of inputs, targets and teachers' items."""
        inputs_RL, targets_T, _, _, soft_TM = places
        if self.options.accumulate == 1:
            yield batch, inputs_RL, targets_T, soft_TM
            return
        edges = np.linspace(0, len(inputs_RL), self.options.accumulate + 1).astype(int)
        row_T = batch.slots_T // batch.items_RL.shape[1]
        for low, high in itertools.pairwise(edges):
            kept = np.flatnonzero((row_T >= low) & (row_T < high))
            if len(kept):
                at = self._to(torch.from_numpy(kept))
                yield batch.rows(low, high), inputs_RL[low:high], targets_T[at], soft_TM[at] if batch.soft else soft_TM

    @staged("loss")
    def _loss(
        self, part: Batch, leaf: Tensor, inputs_RL: Tensor, targets_T: Tensor, soft_TM: Tensor, negatives_n: Tensor
    ) -> Tensor:
        with torch.autocast(self.options.device, self._cast, enabled=self._cast is not None):
            hidden_TD = self._hidden(part, leaf, inputs_RL)
            expected_n = self._to(torch.from_numpy(part.log_expected_n))
            weight_T = None if part.weight_T is None else self._to(torch.from_numpy(part.weight_T))
            usual = self.objective.loss(Predictions(hidden_TD, leaf, targets_T, negatives_n, expected_n, weight_T))
            if part.soft is None or not self.options.soft:
                return usual
            share_TM = self._to(torch.from_numpy(part.soft.share_TM))
            taught = soft_loss(hidden_TD, leaf, soft_TM, share_TM, negatives_n, expected_n)
            return (1 - self.options.soft) * usual + self.options.soft * taught

    def _contrast(self, views: Batch, leaf: Tensor, inputs_RL: Tensor) -> Tensor:
        with torch.autocast(self.options.device, self._cast, enabled=self._cast is not None):
            return contrast(self._hidden(views, leaf, inputs_RL), self.options.temperature)

    def _scale(self, leaf: Tensor, rows: Rows | None) -> Tensor:
        """The leaf where the network is, its rows as scores see them."""
        leaf = self._to(leaf)
        if self.texts is not None:
            leaf = self.texts(leaf, self._rows(rows), self.steps)
        return F.normalize(leaf, dim=1) if self.objective.cosine else leaf

    def _rows(self, rows: Rows | None) -> Tensor:
        """The numbers of the leaf's rows."""
        numbers = np.arange(self.table.num_rows) if rows is None else rows.astype(np.int64)
        return self._to(torch.from_numpy(numbers))

    @staged("forward")
    def _hidden(self, part: Batch, leaf: Tensor, inputs_RL: Tensor) -> Tensor:
        """The network's vectors at the slots of the part; a hidden input is its `mask_D`, or zeros if it has none."""
        items_RLD = leaf.index_select(0, inputs_RL.view(-1)).view(*inputs_RL.shape, -1)
        masked_RL = part.items_RL < 0
        if masked_RL.any():
            mask_D = getattr(self.net, "mask_D", leaf.new_zeros(()))
            items_RLD = torch.where(self._to(torch.from_numpy(masked_RL))[..., None], mask_D, items_RLD)
        times = None if part.times_RL is None else self._to(torch.from_numpy(part.times_RL))
        segment_RL, position_RL = (self._to(torch.from_numpy(a)) for a in (part.segment_RL, part.position_RL))
        out_RLD = self._forward(items_RLD, Packed(segment_RL, position_RL, part.uniform, times))
        hidden: Tensor = out_RLD.reshape(-1, out_RLD.shape[-1])
        return hidden if part.uniform else hidden.index_select(0, self._to(torch.from_numpy(part.slots_T)))

    @staged("update the table")
    def _update(self, leaf: Tensor, rows: Rows | None) -> None:
        """One optimiser step on network and rows with the gradients at hand."""
        options = self.options
        self.lr = lr = rate_at(options.schedule, options.lr, options.warmup, options.total_steps, self.steps)
        for group in self._adam.param_groups:
            group["lr"] = lr * group["share"]
        assert leaf.grad is not None
        scale = self._scaler.get_scale() if self._scaler.is_enabled() else 1.0
        moved(6 * leaf.nbytes)  # values and two moments, read and written
        with stage("exchange between workers"):
            rows, grad = self.workers.merge(rows, leaf.grad if scale == 1.0 else leaf.grad / scale)
        self._scaler.unscale_(self._adam)
        if options.clip:
            grad = self._clip(grad)
        with stage("update the network"):
            self._scaler.step(self._adam)
            self._scaler.update()
        self.workers.stepped(self.net)
        if scale != 1.0 and not bool(torch.isfinite(grad).all()):
            return  # float16 overflowed: the scaler has lowered its scale, and this step is left out
        if self._average is None:
            self.table.apply(rows, grad, lr)
            return
        weight = self.workers.resident(self.table)
        touched = np.arange(len(weight), dtype=np.int32) if rows is None else self.workers.resident_rows(rows)
        self._average.before(weight, touched, self.steps)
        self.table.apply(rows, grad, lr)
        self._average.after(self._dense(), self.workers.resident(self.table), touched, self.steps)

    def _clip(self, grad_UD: Tensor) -> Tensor:
        grads = [p.grad for p in self.net.parameters() if p.grad is not None]
        self.grad_norm = self.workers.norm(grads, grad_UD)
        factor = min(1.0, self.options.clip / (self.grad_norm + 1e-6))
        if factor < 1.0:
            for grad in grads:
                grad.mul_(factor)
            return grad_UD * factor
        return grad_UD

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor if self.options.device == "cpu" else tensor.to(self.options.device, non_blocking=True)

    def _parameters(self) -> list[nn.Parameter]:
        """In the order of the optimiser's state."""
        return [parameter for group in self._adam.param_groups for parameter in group["params"]]

    def _dense(self) -> dict[str, npt.NDArray[np.float32]]:
        values = self.net.state_dict(keep_vars=True).items()
        return {name: self.workers.whole(value, value.detach()) for name, value in values}

    def _arrive(self) -> None:
        """Take in what is still under way between workers, before weights are looked at."""
        late = self.workers.drain()
        if late is not None:
            self.table.apply(*late, self.lr)
        averages = {} if self._average is None else self._average.dense()
        self.workers.settle([*self.net.parameters(), *map(torch.from_numpy, averages.values())])

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The network's arrays by name, averaged if asked for: views, so they move with training."""
        self._arrive()
        return self._dense() if self._average is None else self._average.dense()

    def items(self) -> npt.NDArray[np.float32]:
        """(N, D) the table's rows, averaged if asked for."""
        self._arrive()
        if self._average is None:
            items_ND = self.table.weight()
        else:
            items_ND = self.workers.join(self._average.table(self.workers.resident(self.table), self.steps))
        if self.texts is not None:
            items_ND = self._with_texts(self.texts, items_ND)
        return _unit_rows(items_ND) if self.objective.cosine else items_ND

    @torch.no_grad()
    def _with_texts(self, texts: ItemText, items_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, D) a copy: the vectors that `texts`, with weights averaged if asked for, makes of all rows."""
        arrays = under(self._dense() if self._average is None else self._average.dense(), "texts.")
        weights = {name: self._to(torch.from_numpy(array)) for name, array in arrays.items()}
        texts.eval()
        given = (self._to(torch.from_numpy(np.array(items_ND))), self._rows(None), self.steps)
        vectors_ND = torch.func.functional_call(texts, weights, given)
        texts.train()
        made: npt.NDArray[np.float32] = vectors_ND.float().cpu().numpy()
        return made

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything an exact resume needs."""
        self._arrive()
        state: dict[str, npt.NDArray[Any]] = {"steps": np.asarray([self.steps], np.int64)}
        state |= {f"net.{name}": array for name, array in self._dense().items()}
        state |= {f"table.{name}": array for name, array in self.table.state().items()}
        parameters = self._parameters()
        for index, moments in self._adam.state_dict()["state"].items():
            for name, value in moments.items():
                state[f"adam.{index}.{name}"] = self.workers.whole(parameters[index], value)
        if self._average is not None:
            for name, array in self._average.state().items():
                state[f"average.{name}"] = self.workers.join(array) if name in _BY_ROW else array
        if self._scaler.is_enabled():
            state["scale"] = np.asarray([self._scaler.get_scale(), self._scaler._get_growth_tracker()], np.float64)
        return state

    def keep(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """Of all states given so far only these, by now safe, may be loaded again."""
        self.table.keep([under(state, "table.") for state in states])

    def close(self) -> None:
        """Let go of the table's files and threads; what `weights` and `items` gave stays."""
        self.table.close()

    def prefetch(self, batch: Batch) -> None:
        """A coming batch: a table on disk reads its rows meanwhile. May be called from another thread."""
        if not self.objective.full:
            inputs = np.maximum(batch.items_RL.ravel(), 0)
            self.table.prefetch(np.concatenate([inputs, batch.targets_T, batch.negatives_n]))

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        self.steps = int(state["steps"][0])
        kept = self.net.state_dict(keep_vars=True)
        self.net.load_state_dict(
            {name: self.workers.place(kept[name], array) for name, array in under(state, "net.").items()}
        )
        self.table.load_state(under(state, "table."))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in under(state, "adam.").items():
            index, name = key.split(".")
            parameter = self._parameters()[int(index)]
            moments.setdefault(int(index), {})[name] = self.workers.place(parameter, value)
        self._adam.load_state_dict({**self._adam.state_dict(), "state": moments})
        if self._average is not None:
            average = under(state, "average.")
            average |= {name: self.workers.mine(average[name]) for name in _BY_ROW}
            self._average.load_state(average)
        if self._scaler.is_enabled():
            scale, tracker = state["scale"]
            self._scaler.load_state_dict(
                {**self._scaler.state_dict(), "scale": float(scale), "_growth_tracker": int(tracker)}
            )


def _groups(net: nn.Module, texts: ItemText | None) -> list[dict[str, Any]]:
    """What AdamW learns at the rate of the step, and what at a share of it."""
    slow = [] if texts is None else texts.slow()
    apart = {id(parameter) for parameter in slow}
    usual = [parameter for parameter in net.parameters() if id(parameter) not in apart and parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": usual, "share": 1.0}]
    return groups if texts is None or not slow else [*groups, {"params": slow, "share": texts.slow_rate}]


def _unit_rows(items_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A copy with rows of length 1, zeros staying zeros."""
    length_N = np.sqrt(np.einsum("nd,nd->n", items_ND, items_ND))
    result: npt.NDArray[np.float32] = items_ND / np.maximum(length_N, np.float32(1e-12))[:, None]
    return result
