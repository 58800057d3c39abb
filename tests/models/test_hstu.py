"""HSTU: the contract, the serving engine and the jagged kernels against torch, and what relative time does."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.evaluation.evaluate import evaluate
from leanrec.kernels import hstu as loops
from leanrec.models import MODELS
from leanrec.nn.blocks import HSTU
from leanrec.nn.blocks.hstu import BUCKETS, time_buckets
from leanrec.nn.packing import Packed
from leanrec.runtime.engines.hstu import HSTUEngine, HSTUShape

from .contract import ModelContract
from .packs import SMALL, arrays_of, check_packing, one_row, random_net
from .worlds import shop

_SHAPE: dict[str, Any] = {"dim": 32, "heads": 4, "max_length": 12}


class TestHSTU(ModelContract):
    model = "hstu"
    settings: ClassVar[dict[str, Any]] = SMALL


class TestHSTUWithTimes(ModelContract):
    model = "hstu"
    settings: ClassVar[dict[str, Any]] = {**SMALL, "elapsed": True}


def _net(**changes: Any) -> HSTU:
    return random_net(HSTU(**{**_SHAPE, "layers": 2, "dropout": 0.3, "timed": True, **changes}))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("times", ["known", "none", "some", "network has no bias"])
def test_the_serving_engine_computes_what_torch_does(layers: int, times: str) -> None:
    timed = times != "network has no bias"
    net = _net(layers=layers, timed=timed)
    random = np.random.default_rng(0)
    items = random.standard_normal((40, 32), dtype=np.float32)
    engine = HSTUEngine(HSTUShape(**_SHAPE, layers=layers, timed=timed), arrays_of(net), items)
    lengths = (1, 5, 12, 30)
    histories = Jagged.from_rows([random.integers(0, 40, n) for n in lengths])
    seconds = [1.6e9 + np.cumsum(2.0 ** random.integers(0, 30, n) - 1) for n in lengths]
    if times == "some":
        seconds[1][:] = np.nan
        seconds[2][3] = np.nan
    clock = None if times == "none" else Jagged.from_rows(seconds, np.float64)
    encoded = engine.encode(histories) if clock is None else engine.encode_timed(histories, clock)
    for i, row in enumerate(histories.last(12)):
        packed = one_row(len(row), None if clock is None else clock.last(12)[i])
        with torch.no_grad():
            expected = net(torch.from_numpy(items[row])[None], packed)[0, -1].numpy()
        np.testing.assert_allclose(encoded[i], expected, rtol=2e-4, atol=2e-5)
        one = histories.slice(i, i + 1)
        alone = (engine.encode(one) if clock is None else engine.encode_timed(one, clock.slice(i, i + 1)))[0]
        np.testing.assert_allclose(alone, encoded[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("timed", [True, False])
def test_packed_sequences_do_not_see_each_other(timed: bool) -> None:
    check_packing(_net(timed=timed), 32, 12, timed=True)


def test_buckets_are_powers_of_two() -> None:
    seconds = [0.0, 1, 2, 6, 7, 2**20 - 2, 2**20, 1e12, float("nan")]
    times = torch.tensor([[0.0, *seconds]], dtype=torch.float64)
    packed = Packed(torch.zeros(1, 10, dtype=torch.int64), torch.arange(10)[None], True, times)
    found = time_buckets(packed)[0, 1:, 0].tolist()
    assert found == [0, 1, 1, 2, 3, 19, 20, 31, BUCKETS]
    assert time_buckets(packed)[0, 0, 3] == 0, "an event of the future counts as now"
    assert (time_buckets(one_row(4)) == BUCKETS).all()


@pytest.mark.parametrize("lengths", [[1], [3, 1, 7], [20, 50]])
@pytest.mark.parametrize("known", [True, False])
def test_the_loop_equals_its_reference(lengths: list[int], known: bool) -> None:
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    q, k, v = random.standard_normal((3, offsets[-1], 16), dtype=np.float32)
    position, time = (
        random.standard_normal((4, 30), dtype=np.float32),
        random.standard_normal((4, 33), dtype=np.float32),
    )
    times = random.uniform(0, 1e9, offsets[-1]) if known else np.empty(0)
    first, at = np.repeat(offsets[:-1], lengths), np.arange(offsets[-1])
    asked = (q, k, v, first, at, position, time, times)
    np.testing.assert_allclose(loops.aggregate(*asked), loops.aggregate_reference(*asked), rtol=1e-3, atol=1e-5)


def test_evaluation_passes_times_on() -> None:
    data = shop()
    fitted = MODELS["hstu"](**SMALL, elapsed=True, unknown_times=0.0).fit(data, seed=1)
    assert fitted.source.timed and not MODELS["popular"]().fit(data).source.timed
    cases, times = data.cases("test"), data.known_times("test")
    assert times is not None
    with_times, _ = fitted.rank(cases.histories, 10, times=times.take(cases.users))
    without, _ = fitted.rank(cases.histories, 10)
    assert not np.array_equal(with_times.scores_BK, without.scores_BK)
    values = evaluate(fitted, data, on="test", k=10).rows[0].values["recall@10"]
    hit_B = [bool(set(found) & set(right)) for found, right in zip(with_times.items_BK, cases.targets, strict=True)]
    assert np.array_equal(values, np.asarray(hit_B, np.float64))


def test_hidden_times_are_drawn_from_the_seed() -> None:
    net = _net(unknown_times=0.5, dropout=0.0).train()
    vectors, packed = torch.randn(8, 5, 32), _timed_rows(8, 5)

    def out(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return net(vectors, packed).detach()

    assert torch.equal(out(0), out(0))
    changed = (out(0) != out(1)).flatten(1).any(1)
    assert changed.any() and not changed.all()


def _timed_rows(rows: int, length: int) -> Packed:
    segment, position = torch.zeros(rows, length, dtype=torch.int64), torch.arange(length).expand(rows, -1)
    return Packed(segment, position, True, torch.rand(rows, length, dtype=torch.float64).cumsum(1) * 1e6)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of heads"):
        MODELS["hstu"](**{**SMALL, "heads": 3}).fit(shop())
