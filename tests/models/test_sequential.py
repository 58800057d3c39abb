"""The sequence transformers: the contract, the same vectors in torch and in the serving engine, and that they learn."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.evaluation.evaluate import evaluate
from leanrec.models import MODELS
from leanrec.nn.blocks import BLOCKS, Seen, Transformer
from leanrec.nn.blocks.attention import attend, flex_mask
from leanrec.nn.packing import Packed
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape

from .contract import ModelContract
from .packs import SMALL, arrays_of, check_engine, check_packing, one_row, random_net
from .worlds import shop


class TestSASRec(ModelContract):
    model = "sasrec"
    settings: ClassVar[dict[str, Any]] = SMALL


class TestESASRec(ModelContract):
    model = "esasrec"
    settings: ClassVar[dict[str, Any]] = SMALL


class TestRotary(ModelContract):
    model = "esasrec"
    settings: ClassVar[dict[str, Any]] = {**SMALL, "positions": "rotary"}


class TestBERT4Rec(ModelContract):
    model = "bert4rec"
    settings: ClassVar[dict[str, Any]] = {**SMALL, "epochs": 8}


class TestGSASRec(ModelContract):
    model = "gsasrec"
    settings: ClassVar[dict[str, Any]] = {**SMALL, "epochs": 8}


_VARIANTS: list[dict[str, Any]] = [
    {}, {"positions": "rotary"}, {"positions": "none"}, {"bidirectional": True},
    {"bidirectional": True, "positions": "rotary"},
]  # fmt: skip


def _net(block: str, layers: int = 2, **variant: Any) -> Transformer:
    shape = {"dim": 32, "heads": 4, "hidden": 48, "max_length": 12, "dropout": 0.3}
    return random_net(Transformer(block=block, layers=layers, **{**shape, **variant}))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("variant", _VARIANTS, ids=str)
def test_the_serving_engine_computes_what_torch_does(block: str, layers: int, variant: dict[str, Any]) -> None:
    net = _net(block, layers, **variant)
    items = np.random.default_rng(0).standard_normal((40, 32), dtype=np.float32)
    shape = TransformerShape(block=block, dim=32, layers=layers, heads=4, max_length=12, **variant)
    engine = TransformerEngine(shape, arrays_of(net), items)
    if variant.get("bidirectional"):
        check_engine(engine, _WithMaskLast(net), items, 11)
    else:
        check_engine(engine, net, items, 12)


class _WithMaskLast(torch.nn.Module):
    """The network over a sequence with a hidden event after it."""

    def __init__(self, net: Transformer) -> None:
        super().__init__()
        self.net = net

    def forward(self, items: Tensor, packed: Packed) -> Tensor:
        del packed
        return self.net(torch.cat([items, self.net.mask_D.expand(1, 1, -1)], 1), one_row(items.shape[1] + 1))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("variant", _VARIANTS, ids=str)
def test_packed_sequences_do_not_see_each_other(block: str, variant: dict[str, Any]) -> None:
    check_packing(_net(block, **variant), 32, 12)


def test_a_causal_network_knows_no_future_and_a_bidirectional_one_does() -> None:
    first, second = torch.randn(2, 1, 6, 32).unbind(0)
    second[:, :5] = first[:, :5]
    for variant, same in (({}, True), ({"bidirectional": True}, False)):
        net = _net("sasrec", **variant)
        one, other = net(first, one_row(6))[0, :5], net(second, one_row(6))[0, :5]
        assert torch.allclose(one, other, atol=1e-6) == same


def test_rotary_positions_tell_distances_alone() -> None:
    """Whole sequences moved along, as in a window that has slid, come out the same."""
    net, items = _net("ligr", positions="rotary", max_length=100), torch.randn(1, 6, 32)
    moved = Packed(torch.zeros(1, 6, dtype=torch.int64), torch.arange(40, 46)[None], True)
    torch.testing.assert_close(net(items, moved), net(items, one_row(6)), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("causal", [True, False])
def test_flex_attention_sees_what_the_plain_mask_does(causal: bool) -> None:
    torch.manual_seed(0)
    packed = Packed(
        torch.tensor([[0, 0, 1, 1, 1, -1], [0, 0, 0, 0, 1, 1]]), torch.tensor([[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 0, 1]])
    )
    q, k, v = torch.randn(3, 2, 4, 6, 16).unbind(0)
    plain = attend(q, k, v, Seen.of(packed, causal=causal))
    flex = attend(q, k, v, Seen(flex_mask(packed, causal=causal), causal))
    torch.testing.assert_close(flex, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["sasrec", "esasrec", "hstu"])
def test_checkpointing_changes_no_bit(model: str) -> None:
    """Dropout draws the same masks again, so that loss and gradients are those without it."""
    config = MODELS[model](**{**SMALL, "dropout": 0.3, "layers": 2}).resolve(shop())
    found = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        net = MODELS[model]().network(msgspec.structs.replace(config, checkpoint=checkpoint)).train()
        items = torch.randn(2, 6, config.dim, requires_grad=True)
        torch.manual_seed(1)
        times = torch.arange(12, dtype=torch.float64).view(2, 6).exp2()
        segment, position = torch.tensor([[0, 0, 0, 1, 1, 1]] * 2), torch.tensor([[0, 1, 2, 0, 1, 2]] * 2)
        loss = net(items, Packed(segment, position, False, times)).square().sum()
        loss.backward()
        assert items.grad is not None
        found.append([loss.detach(), items.grad, *(p.grad for p in net.parameters() if p.grad is not None)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_it_learns_more_than_popularity() -> None:
    data = shop()
    settings = {**SMALL, "epochs": 60, "patience": 60, "dropout": 0.1, "lr": 5e-3, "warmup": 10}
    learned, popular = MODELS["esasrec"](**settings).fit(data, seed=1), MODELS["popular"]().fit(data)
    results = evaluate({"esasrec": learned, "popular": popular}, data, k=10)
    assert results["esasrec"].metrics["ndcg@10"] > 1.2 * results["popular"].metrics["ndcg@10"]


def test_a_bidirectional_model_learns_more_than_popularity() -> None:
    data = shop()
    settings = {**SMALL, "epochs": 60, "patience": 60, "dropout": 0.1, "lr": 5e-3, "warmup": 10}
    learned, popular = MODELS["bert4rec"](**settings).fit(data, seed=1), MODELS["popular"]().fit(data)
    results = evaluate({"bert4rec": learned, "popular": popular}, data, k=10)
    assert results["bert4rec"].metrics["ndcg@10"] > 1.2 * results["popular"].metrics["ndcg@10"]


@pytest.mark.parametrize("setting", [{"horizon": 3}, {"max_length": 1}])
def test_what_means_nothing_for_hidden_events_is_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="hidden event"):
        MODELS["bert4rec"](**{**SMALL, **setting}).fit(shop())


def test_exact_softmax_trains_too() -> None:
    fitted = MODELS["sasrec"](**{**SMALL, "objective": "softmax"}).fit(shop(), seed=1)
    assert fitted.card["epochs"] == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"heads": 3}, "multiple"),
        ({"heads": 16, "positions": "rotary"}, "rotary"),
        ({"precision": "float31"}, "float32"),
        ({"objective": "softmaxx"}, "softmax"),
    ],
)
def test_an_impossible_setting_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS["sasrec"](**{**SMALL, **setting}).fit(shop())
