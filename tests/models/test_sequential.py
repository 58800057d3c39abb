"""The sequence transformers: the contract, the same vectors in torch and in the serving engine, and that they learn."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.evaluation.evaluate import evaluate
from leanrec.models import MODELS
from leanrec.nn.blocks import BLOCKS, Transformer
from leanrec.nn.packing import Packed
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape

from .contract import ModelContract
from .worlds import shop

_SMALL = {"dim": 16, "layers": 1, "heads": 2, "epochs": 2, "negatives": 16, "batch_tokens": 256}


class TestSASRec(ModelContract):
    model = "sasrec"
    settings: ClassVar[dict[str, Any]] = _SMALL


class TestESASRec(ModelContract):
    model = "esasrec"
    settings: ClassVar[dict[str, Any]] = _SMALL


def _whole(length: int) -> Packed:
    return Packed(torch.zeros(1, length, dtype=torch.int64), torch.arange(length)[None], uniform=True)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("layers", [1, 3])
def test_the_serving_engine_computes_what_torch_does(block: str, layers: int) -> None:
    torch.manual_seed(0)
    net = Transformer(block=block, dim=32, layers=layers, heads=4, hidden=48, max_length=12, dropout=0.3).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    random = np.random.default_rng(0)
    items = random.standard_normal((40, 32), dtype=np.float32)
    shape = TransformerShape(block=block, dim=32, layers=layers, heads=4, max_length=12)
    engine = TransformerEngine(shape, {name: value.numpy() for name, value in net.state_dict().items()}, items)
    histories = Jagged.from_rows([random.integers(0, 40, n) for n in (1, 5, 12, 30)])
    encoded = engine.encode(histories)
    for row, vector in zip(histories.last(12), encoded, strict=True):
        with torch.no_grad():
            expected = net(torch.from_numpy(items[row])[None], _whole(len(row)))[0, -1].numpy()
        np.testing.assert_allclose(vector, expected, rtol=2e-4, atol=2e-5)
    for i in range(len(histories)):
        np.testing.assert_allclose(engine.encode(histories.slice(i, i + 1))[0], encoded[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_packed_sequences_do_not_see_each_other(block: str) -> None:
    torch.manual_seed(0)
    net = Transformer(block=block, dim=16, layers=2, heads=2, hidden=32, max_length=8, dropout=0.0).eval()
    vectors = torch.randn(1, 8, 16)
    segment, position = torch.tensor([[0, 0, 0, 1, 1, 1, 1, -1]]), torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0]])
    packed = Packed(segment, position)
    with torch.no_grad():
        together = net(vectors, packed)[0]
        first = net(vectors[:, :3], _whole(3))[0]
        second = net(vectors[:, 3:7], _whole(4))[0]
    torch.testing.assert_close(together[:7], torch.cat([first, second]), rtol=1e-4, atol=1e-5)


def test_it_learns_more_than_popularity() -> None:
    data = shop()
    settings = {**_SMALL, "epochs": 60, "patience": 60, "dropout": 0.1, "lr": 5e-3, "warmup": 10}
    learned, popular = MODELS["esasrec"](**settings).fit(data, seed=1), MODELS["popular"]().fit(data)
    results = evaluate({"esasrec": learned, "popular": popular}, data, k=10)
    assert results["esasrec"].metrics["ndcg@10"] > 1.2 * results["popular"].metrics["ndcg@10"]


def test_exact_softmax_trains_too() -> None:
    fitted = MODELS["sasrec"](**{**_SMALL, "objective": "softmax"}).fit(shop(), seed=1)
    assert fitted.card["epochs"] == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"heads": 3}, "multiple"), ({"precision": "float31"}, "float32"), ({"objective": "softmaxx"}, "softmax")],
)
def test_an_impossible_setting_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS["sasrec"](**{**_SMALL, **setting}).fit(shop())
