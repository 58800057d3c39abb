"""Packed batches and networks for tests of the sequence models."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from leanrec.core.jagged import Jagged
from leanrec.nn.packing import Packed
from leanrec.runtime.base import Engine

SMALL: dict[str, Any] = {"dim": 16, "layers": 1, "heads": 2, "epochs": 2, "negatives": 16, "batch_tokens": 256}

Net = TypeVar("Net", bound=nn.Module)


def one_row(length: int, times: npt.NDArray[np.float64] | None = None) -> Packed:
    """One sequence that fills its row."""
    clock = None if times is None else torch.from_numpy(np.ascontiguousarray(times))[None]
    return Packed(torch.zeros(1, length, dtype=torch.int64), torch.arange(length)[None], True, clock)


def random_net(net: Net) -> Net:
    """Every parameter drawn wide, so that a part that is left out shows; not training."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.eval()


def arrays_of(net: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    return {name: value.numpy() for name, value in net.state_dict().items()}


def check_packing(net: nn.Module, dim: int, length: int, *, timed: bool = False) -> None:
    """Sequences in rows with empty slots come out as each of them alone does."""
    torch.manual_seed(1)
    rows = [[3, 1, length - 5], [length], [length - 2]]
    segment = torch.full((len(rows), length), -1)
    position = torch.zeros(len(rows), length, dtype=torch.int64)
    vectors, times = torch.randn(len(rows), length, dim), torch.rand(len(rows), length, dtype=torch.float64) * 1e8
    for row, sizes in enumerate(rows):
        ends = np.cumsum(sizes)
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True)):
            segment[row, end - size : end], position[row, end - size : end] = number, torch.arange(size)
    with torch.no_grad():
        together = net(vectors, Packed(segment, position, False, times if timed else None))
        for row, sizes in enumerate(rows):
            for size, end in zip(sizes, np.cumsum(sizes), strict=True):
                part = slice(end - size, end)
                alone = net(vectors[row : row + 1, part], one_row(size, times[row, part].numpy() if timed else None))
                torch.testing.assert_close(together[row, part], alone[0], rtol=1e-4, atol=1e-5)


def check_engine(engine: Engine, net: nn.Module, items_ND: npt.NDArray[np.float32], window: int) -> None:
    """The engine gives what the network gives at the last position, together and one by one."""
    random = np.random.default_rng(0)
    histories = Jagged.from_rows([random.integers(0, len(items_ND), n) for n in (5, 1, window, window + 18, 2, 5)])
    encoded = engine.encode(histories)
    for i, row in enumerate(histories.last(window)):
        with torch.no_grad():
            expected = net(torch.from_numpy(items_ND[row])[None], one_row(len(row)))[0, -1].numpy()
        np.testing.assert_allclose(encoded[i], expected, rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(engine.encode(histories.slice(i, i + 1))[0], encoded[i], rtol=1e-4, atol=1e-5)
