"""GRU4Rec: the contract, and the same vectors in torch and in the serving engine."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from leanrec.core.jagged import Jagged
from leanrec.kernels.gru import advance, advance_reference
from leanrec.nn.blocks import GRU
from leanrec.nn.packing import Packed
from leanrec.runtime.engines.gru import GRUEngine, GRUShape

from .contract import ModelContract
from .packs import SMALL, arrays_of, check_engine, check_packing, random_net


class TestGRU4Rec(ModelContract):
    model = "gru4rec"
    settings: ClassVar[dict[str, Any]] = {key: value for key, value in SMALL.items() if key != "heads"}


@pytest.mark.parametrize("layers", [1, 3])
def test_the_serving_engine_computes_what_torch_does(layers: int) -> None:
    net = random_net(GRU(dim=16, layers=layers, hidden=24, dropout=0.3))
    items = np.random.default_rng(0).standard_normal((40, 16), dtype=np.float32)
    engine = GRUEngine(GRUShape(dim=16, layers=layers, hidden=24, max_length=12), arrays_of(net), items)
    check_engine(engine, net, items, 12)
    assert engine.encode(Jagged.empty(0)).shape == (0, 16)


def test_packed_sequences_do_not_see_each_other() -> None:
    check_packing(random_net(GRU(dim=16, layers=2, hidden=24, dropout=0.3)), 16, 12)


def test_empty_slots_stay_zero_and_gradients_reach_every_input() -> None:
    net = random_net(GRU(dim=8, layers=1, hidden=8, dropout=0.0))
    vectors = torch.randn(1, 6, 8, requires_grad=True)
    out = net(vectors, Packed(torch.tensor([[0, 0, 1, 1, 1, -1]]), torch.tensor([[0, 1, 0, 1, 2, 0]])))
    out.sum().backward()
    assert vectors.grad is not None
    assert (out[0, 5] == 0).all() and (vectors.grad[0, 5] == 0).all() and (vectors.grad[0, :5] != 0).any(1).all()


def test_the_loop_equals_its_reference() -> None:
    random = np.random.default_rng(0)
    inputs, recurrent = 3 * random.standard_normal((2, 5, 21), dtype=np.float32)
    state = random.standard_normal((5, 7), dtype=np.float32)
    expected = state.copy()
    advance_reference(inputs, recurrent, expected)
    advance(inputs, recurrent, state)
    np.testing.assert_allclose(state, expected, rtol=1e-5, atol=1e-6)
