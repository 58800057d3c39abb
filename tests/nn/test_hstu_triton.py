"""The jagged kernels against the plain reference: on a GPU, or in Triton's interpreter where Triton is installed."""

from __future__ import annotations

import os

import pytest
import torch

from leanrec.nn.blocks.hstu import Pairs, aggregate
from leanrec.nn.packing import Packed

pytest.importorskip("triton", reason="Triton is not installed")
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if _DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU; TRITON_INTERPRET=1 runs the kernels without one", allow_module_level=True)


def _packed(length: int) -> Packed:
    torch.manual_seed(0)
    rows = [[length], [7, length - 20, 5], [1, 1, length // 2]]
    segment, position = torch.full((3, length), -1), torch.zeros(3, length, dtype=torch.int64)
    for row, sizes in enumerate(rows):
        start = 0
        for number, size in enumerate(sizes):
            segment[row, start : start + size], position[row, start : start + size] = number, torch.arange(size)
            start += size
    times = torch.rand(3, length, dtype=torch.float64).mul(20).exp2().cumsum(1)
    times[2, ::3] = float("nan")
    return Packed(segment.to(_DEVICE), position.to(_DEVICE), False, times.to(_DEVICE))


@pytest.mark.parametrize("length", [40, 70])
@pytest.mark.parametrize("timed", [True, False])
def test_values_and_gradients_are_those_of_the_reference(length: int, timed: bool) -> None:
    from leanrec.nn.blocks.hstu_triton import aggregate_jagged

    packed = _packed(length)
    sizes = [(3, 2, length, 16)] * 3 + [(length, 2), (33, 2)]
    leaves = [torch.randn(size, device=_DEVICE) for size in sizes]
    filled = (packed.segment_RL >= 0)[:, None, :, None]
    weight = torch.randn(3, 2, length, 16, device=_DEVICE) * filled
    found = []
    for plain in (True, False):
        q, k, v, position, time = (leaf.clone().requires_grad_() for leaf in leaves)
        if plain:
            out = aggregate(q, k, v, Pairs.of(packed, timed=timed), position, time if timed else None)
        else:
            out = aggregate_jagged(q, k, v, packed, position, time if timed else None)
        (out * weight).sum().backward()
        grads = [leaf.grad for leaf in (q, k, v, position, *([time] if timed else []))]
        found.append([out * filled, *grads])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
