"""One training step: accumulation, clipping, averaging, schedules and precision do what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.kernels.rows import average_rows, average_rows_reference
from leanrec.nn.blocks import Transformer
from leanrec.nn.tables import make_table
from leanrec.training.loader import SequenceLoader
from leanrec.training.objectives import make_objective
from leanrec.training.precision import choose_precision
from leanrec.training.schedules import SCHEDULES, check_schedule, rate_at
from leanrec.training.task import NextItem, StepOptions

_ITEMS = 60


def _task(*, table: str = "dense", **options: Any) -> NextItem:
    torch.manual_seed(0)
    net = Transformer(block="sasrec", dim=16, layers=2, heads=2, hidden=32, max_length=10, dropout=0.0)
    options = {"lr": 1e-2, "warmup": 3, "seed": 1, **options}
    return NextItem(
        net, make_table(table, _ITEMS, 16, options={"optimiser": "sgd"}),
        make_objective("sampled-softmax", {}, _ITEMS, 20), StepOptions(**options),
    )  # fmt: skip


def _batches(epochs: int = 1) -> list[Any]:
    random = np.random.default_rng(0)
    rows = [np.cumsum(random.integers(0, 3, n)) % _ITEMS for n in random.integers(2, 30, 30)]
    loader = SequenceLoader(Jagged.from_rows(rows), max_length=10, batch_tokens=60, num_items=_ITEMS, negatives=20)
    return [batch for epoch in range(epochs) for batch in loader.epoch(epoch)]


def test_a_batch_in_parts_is_the_same_step() -> None:
    whole, parts = _task(), _task(accumulate=3)
    for batch in _batches():
        assert whole.step(batch) == pytest.approx(parts.step(batch), rel=1e-5)
    np.testing.assert_allclose(whole.items(), parts.items(), rtol=1e-4, atol=1e-6)
    for name, value in whole.weights().items():
        if not name.endswith("qkv.bias"):  # a key's bias has no gradient but rounding, which Adam blows up
            np.testing.assert_allclose(value, parts.weights()[name], rtol=2e-3, atol=2e-5)


def test_clipping_bounds_the_step_of_rows_and_network_together() -> None:
    free, clipped = _task(), _task(clip=0.01)
    batch = _batches()[0]
    start = free.table.weight().copy()
    free.step(batch)
    clipped.step(batch)
    assert clipped.grad_norm > 0.01
    # rows take SGD steps, so the clipped change is the free one times limit / norm
    expected = (free.table.weight() - start) * 0.01 / clipped.grad_norm
    np.testing.assert_allclose(clipped.table.weight() - start, expected, rtol=1e-3, atol=1e-7)


def test_the_average_is_that_of_every_step() -> None:
    task = _task(ema=0.7)
    items, dense = task.table.weight().copy(), {k: v.copy() for k, v in task._dense().items()}
    for batch in _batches(3):
        task.step(batch)
        decay = min(0.7, (1 + task.steps) / (10 + task.steps))
        items = decay * items + (1 - decay) * task.table.weight()
        dense = {k: decay * v + (1 - decay) * task._dense()[k] for k, v in dense.items()}
    np.testing.assert_allclose(task.items(), items, rtol=1e-4, atol=1e-6)
    for name, value in dense.items():
        np.testing.assert_allclose(task.weights()[name], value, rtol=1e-4, atol=1e-6)


@given(st.integers(1, 12), st.sampled_from([0.3, 0.8, 0.97]), st.integers(0, 2**31))
def test_averages_of_rows_are_made_up_as_in_the_reference(count: int, decay: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    table = random.standard_normal((12, 3)).astype(np.float32)
    rows = random.permutation(12)[:count].astype(np.int32)
    states = [(np.ones((12, 3), np.float32), 5 * np.arange(12, dtype=np.int64)) for _ in range(2)]
    average_rows(*states[0], table, rows, decay, 60)
    average_rows_reference(*states[1], table, rows, decay, 60)
    np.testing.assert_allclose(states[0][0], states[1][0], rtol=1e-5)
    np.testing.assert_array_equal(states[0][1], states[1][1])


@pytest.mark.parametrize("options", [{"ema": 0.9, "clip": 0.1}, {"precision": "float16"}, {"schedule": "cosine"}])
def test_a_state_taken_over_goes_on_bit_for_bit(options: dict[str, Any]) -> None:
    batches = _batches()
    straight, first, second = (_task(total_steps=40, **options) for _ in range(3))
    for batch in batches:
        straight.step(batch)
    for batch in batches[:3]:
        first.step(batch)
    second.load_state({name: np.array(array) for name, array in first.state().items()})
    for batch in batches[3:]:
        second.step(batch)
    for name, array in straight.state().items():
        np.testing.assert_array_equal(array, second.state()[name], err_msg=name)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_every_precision_reaches_the_same_loss(precision: str) -> None:
    losses = {}
    for mode in ("float32", precision):
        task = _task(precision=mode)
        losses[mode] = np.mean([task.step(batch) for batch in _batches(8)][-8:])
    assert losses[precision] == pytest.approx(losses["float32"], rel=0.02)


def test_rates_rise_then_move_as_named() -> None:
    for name in SCHEDULES:
        rates = [rate_at(name, 1.0, 10, 100, step) for step in range(1, 101)]
        assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
        assert (np.diff(rates[10:]) <= 1e-12).all()
    assert rate_at("constant", 1.0, 10, 100, 500) == 1.0
    assert rate_at("linear", 1.0, 10, 110, 60) == pytest.approx(0.5)
    assert rate_at("cosine", 1.0, 10, 110, 60) == pytest.approx(0.5)
    assert rate_at("cosine", 1.0, 10, 110, 110) == pytest.approx(0.0)
    assert rate_at("inverse-sqrt", 1.0, 10, 110, 40) == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="cosine"):
        check_schedule("cosin")


def test_precision_is_chosen_by_width_and_device() -> None:
    assert choose_precision("auto", 32) == "float32"
    assert choose_precision("auto", 64, "cuda") == "bfloat16"
    assert choose_precision("float16", 64) == "float16"
    with pytest.raises(ConfigError, match="bfloat16"):
        choose_precision("bfloat1", 64)
