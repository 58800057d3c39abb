"""Caser: the contract, the same vectors in torch and in the serving engine, the definition by plain convolutions."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.models import MODELS
from leanrec.nn.blocks import Caser
from leanrec.runtime.engines.caser import CaserEngine, CaserShape

from .contract import ModelContract
from .packs import SMALL, arrays_of, check_engine, check_packing, one_row, random_net
from .worlds import shop

_SHAPE: dict[str, Any] = {"dim": 16, "window": 4, "filters": 6, "vertical": 3}
_SMALL = {key: value for key, value in SMALL.items() if key not in ("heads", "layers")}


class TestCaser(ModelContract):
    model = "caser"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "epochs": 20, "patience": 20, "lr": 1e-2}


def _net() -> Caser:
    return random_net(Caser(**_SHAPE, dropout=0.3))


@pytest.mark.parametrize("window", [1, 4])
def test_the_serving_engine_computes_what_torch_does(window: int) -> None:
    net = random_net(Caser(**{**_SHAPE, "window": window}, dropout=0.3))
    items = np.random.default_rng(0).standard_normal((40, 16), dtype=np.float32)
    engine = CaserEngine(CaserShape(**{**_SHAPE, "window": window}), arrays_of(net), items)
    check_engine(engine, net, items, 12)
    assert engine.encode(Jagged.empty(0)).shape == (0, 16)


def test_packed_sequences_do_not_see_each_other() -> None:
    check_packing(_net(), 16, 12)


def test_every_position_is_the_network_of_the_paper_over_its_last_items() -> None:
    net, items = _net(), torch.randn(1, 7, 16)
    found = net(items, one_row(7))[0]
    padded = torch.cat([torch.zeros(3, 16), items[0] * 4.0])
    for position in range(7):
        window = padded[position : position + 4]
        parts = [(net.vertical.weight @ window + net.vertical.bias[:, None]).T.reshape(-1)]
        for height, layer in enumerate(net.horizontal, 1):
            kernel = layer.weight.view(6, 1, height, 16)
            parts.append(F.relu(F.conv2d(window[None, None], kernel, layer.bias)).amax((2, 3))[0])
        expected = net.norm(net.out(F.relu(net.hidden(torch.cat(parts)))))
        torch.testing.assert_close(found[position], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("setting", [{"window": 0}, {"filters": 0}, {"vertical": -1}])
def test_an_impossible_setting_is_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        MODELS["caser"](**{**_SMALL, **setting}).fit(shop())
