"""A network and its optimiser as named arrays, for tasks that keep and load their state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["State", "load_network", "network_state", "under"]

State = dict[str, npt.NDArray[Any]]


def under(state: Mapping[str, npt.NDArray[Any]], prefix: str) -> State:
    """The arrays whose names start with `prefix`, by the rest of the name."""
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def network_state(net: nn.Module, adam: torch.optim.Optimizer) -> State:
    """Views of the weights (`net.NAME`) and of the optimiser's moments (`adam.PLACE.NAME`)."""
    state = {f"net.{name}": value.detach().numpy() for name, value in net.state_dict().items()}
    for index, moments in adam.state_dict()["state"].items():
        state |= {f"adam.{index}.{name}": value.numpy() for name, value in moments.items()}
    return state


def load_network(net: nn.Module, adam: torch.optim.Optimizer, state: Mapping[str, npt.NDArray[Any]]) -> None:
    """Take over what `network_state` gave."""
    net.load_state_dict({name: _tensor(array) for name, array in under(state, "net.").items()})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, array in under(state, "adam.").items():
        index, name = key.split(".")
        moments.setdefault(int(index), {})[name] = _tensor(array)
    adam.load_state_dict({**adam.state_dict(), "state": moments})


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array))
