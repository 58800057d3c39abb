"""Next-item prediction as one training step: packed batch in, loss out, network and touched rows updated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from leanrec.nn.packing import Packed
from leanrec.nn.tables.base import Table
from leanrec.training.loader import Batch
from leanrec.training.objectives.base import Objective, Predictions

__all__ = ["NextItem"]


class NextItem:
    """A network over item vectors, the table those come from, an objective, and the optimisers of both.

    Dense weights are updated by AdamW, table rows by the table's own optimiser at the same learning rate, which rises
    linearly over the first `warmup` steps.
    """

    def __init__(
        self, net: nn.Module, table: Table, objective: Objective, *, lr: float, warmup: int, weight_decay: float,
        clip: float, bfloat16: bool, seed: int,
    ) -> None:  # fmt: skip
        self.net, self.table, self.objective = net, table, objective
        self._lr, self._warmup, self._clip, self._bfloat16, self._seed = lr, warmup, clip, bfloat16, seed
        self._adam = torch.optim.AdamW(
            net.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True
        )
        self.steps = 0

    def step(self, batch: Batch) -> float:
        """Learn from one batch; its mean loss."""
        # dropout depends on (seed, step) alone, so a resumed run draws what an uninterrupted one would
        torch.manual_seed((self._seed << 32) ^ self.steps)
        leaf, rows, inputs_RL, targets_T, negatives_n = self._look_up(batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            hidden_TD = self._hidden(batch, leaf.index_select(0, inputs_RL.view(-1)).view(*inputs_RL.shape, -1))
            expected_n = torch.from_numpy(batch.log_expected_n)
            loss = self.objective.loss(Predictions(hidden_TD, leaf, targets_T, negatives_n, expected_n))
        self.steps += 1
        lr = self._lr * min(1.0, self.steps / max(self._warmup, 1))
        self._adam.param_groups[0]["lr"] = lr
        self._adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self._clip)
        self._adam.step()
        assert leaf.grad is not None
        self.table.apply(rows, leaf.grad, lr)
        return float(loss.detach())

    def _look_up(self, batch: Batch) -> tuple[Tensor, npt.NDArray[np.int32] | None, Tensor, Tensor, Tensor]:
        """The leaf, its rows, and where inputs, targets and negatives stand in it."""
        if self.objective.full:
            places = [batch.items_RL, batch.targets_T, batch.negatives_n]
            inputs, targets, negatives = (torch.from_numpy(p.astype(np.int64)) for p in places)
            return self.table.gather(None), None, inputs, targets, negatives
        flat = np.concatenate([batch.items_RL.ravel(), batch.targets_T, batch.negatives_n])
        rows, inverse = self.table.distinct(flat)
        sizes = [batch.items_RL.size, len(batch.targets_T), len(batch.negatives_n)]
        inputs, targets, negatives = torch.split(torch.from_numpy(inverse), sizes)
        return self.table.gather(rows), rows, inputs.view(batch.items_RL.shape), targets, negatives

    def _hidden(self, batch: Batch, items_RLD: Tensor) -> Tensor:
        times = None if batch.times_RL is None else torch.from_numpy(batch.times_RL)
        packed = Packed(torch.from_numpy(batch.segment_RL), torch.from_numpy(batch.position_RL), batch.uniform, times)
        out_RLD = self.net(items_RLD, packed)
        hidden: Tensor = out_RLD.reshape(-1, out_RLD.shape[-1])
        return hidden if batch.uniform else hidden.index_select(0, torch.from_numpy(batch.slots_T))

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The network's arrays by name: views, so they move with training."""
        return {name: value.detach().numpy() for name, value in self.net.state_dict().items()}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything an exact resume needs."""
        state: dict[str, npt.NDArray[Any]] = {"steps": np.asarray([self.steps], np.int64)}
        state |= {f"net.{name}": array for name, array in self.weights().items()}
        state |= {f"table.{name}": array for name, array in self.table.state().items()}
        for index, moments in self._adam.state_dict()["state"].items():
            state |= {f"adam.{index}.{name}": value.numpy() for name, value in moments.items()}
        return state

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        self.steps = int(state["steps"][0])
        self.net.load_state_dict({k.removeprefix("net."): _copy(v) for k, v in state.items() if k.startswith("net.")})
        self.table.load_state({k.removeprefix("table."): v for k, v in state.items() if k.startswith("table.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = _copy(value)
        self._adam.load_state_dict({**self._adam.state_dict(), "state": moments})


def _copy(array: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.copy())
