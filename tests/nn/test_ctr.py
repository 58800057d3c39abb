"""Blocks of click networks: their papers' formulas, and the same numbers with torch and with NumPy."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from leanrec.core.jagged import Jagged
from leanrec.features.batch import FeatureBatch, Layout
from leanrec.nn.ctr import BLOCKS, Plan, step
from leanrec.nn.ctr.cross import Cross, CrossMixture
from leanrec.nn.ctr.interactions import Dots, Factorised, Pairs
from leanrec.nn.ctr.tasks import Chain
from leanrec.runtime.engines.ctr import OPS, PlanEngine
from leanrec.training.clicks import ClickBatch, ClickOptions, ClickTask
from leanrec.training.labelled import Labelled

LAYOUT = Layout(("age", "price"), ("user_id", "item_id", "hour"), (9, 7, 5), ("genres",), (4,), "item_id")
DIM = 4

PLANS: dict[str, Plan] = {
    "linear": [step("logit", "sum", "first")],
    "fm": [step("second", "pairs", "fields"), step("logit", "sum", "first", "second")],
    "dnn": [step("deep", "mlp", "flat", widths=(8, 6), dropout=0.3), step("logit", "dense", "deep")],
    "cross": [step("cross", "cross", "flat", layers=2), step("logit", "dense", "cross")],
    "mixture": [
        step("cross", "cross-mixture", "flat", layers=2, experts=3, rank=2),
        step("both", "concat", "cross", "numbers"),
        step("logit", "dense", "both"),
    ],
    "dlrm": [
        step("bottom", "mlp", "numbers", widths=(DIM,)),
        step("all", "append", "fields", "bottom"),
        step("dots", "dots", "all"),
        step("logit", "dense", "dots"),
    ],
    "final": [step("block", "factorised", "flat", widths=(6, 5)), step("logit", "dense", "block")],
    "gates": [step("gated", "gates", "fields"), step("second", "pairs", "gated"), step("logit", "sum", "second")],
    "din": [
        step("pooled", "attend", "target", "history", width=5),
        step("found", "concat", "flat", "pooled"),
        step("logit", "dense", "found"),
    ],
    "tasks": [
        step("deep", "mlp", "flat", widths=(8,)),
        step("tasks", "experts", "deep", experts=3, width=4, tasks=2),
        step("logit", "chain", "tasks"),
    ],
}


def rows(count: int = 23, tasks: int = 1, seed: int = 0) -> Labelled:
    rng = np.random.default_rng(seed)
    batch = FeatureBatch(
        LAYOUT,
        rng.normal(size=(count, 2)).astype(np.float32),
        np.stack([rng.integers(0, size, count) for size in LAYOUT.sizes], axis=1).astype(np.int32),
        (Jagged.from_rows([rng.integers(1, 4, rng.integers(0, 4)) for _ in range(count)]),),
        Jagged.from_rows([rng.integers(0, 7, rng.integers(0, 9)) for _ in range(count)]),
    )
    labels = np.sort(rng.integers(0, 2, (count, tasks)), axis=1)[:, ::-1]
    return Labelled(batch, labels.astype(np.uint8))


def task_of(plan: Plan, **options: Any) -> ClickTask:
    return ClickTask(plan, LAYOUT, DIM, ClickOptions(history=6, batch=8, lr=0.05, **options), seed=3)


@pytest.mark.parametrize("name", PLANS)
def test_numpy_says_what_torch_says(name):
    tasks = 2 if name == "tasks" else 1
    task, some = task_of(PLANS[name]), rows(tasks=tasks)
    for seed in range(5):
        task.step(ClickBatch(rows(tasks=tasks, seed=seed), 0))
    used, coded = task._coded(some.batch)
    task.network.eval()
    with torch.no_grad():
        expected = task.network(task.table.gather(used), coded).numpy()
    found = task.engine().raw(some.batch)
    assert found.shape == (len(some), tasks) and expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PLANS)
def test_an_engine_goes_through_its_bundle_and_does_not_mind_its_neighbours(name):
    engine = task_of(PLANS[name]).engine()
    again = PlanEngine.load(msgspec.to_builtins(engine.config()), engine.tensors(), LAYOUT)
    batch = rows(64).batch
    assert np.array_equal(engine.raw(batch), again.raw(batch))
    turned = np.random.default_rng(1).permutation(64)
    assert np.array_equal(engine.raw(batch.take(turned)), engine.raw(batch)[turned])


def test_every_block_has_its_operation():
    assert set(OPS) == set(BLOCKS)


@pytest.mark.parametrize("name", ["fm", "dnn", "din", "tasks"])
def test_training_learns_and_repeats(name):
    def losses() -> list[float]:
        tasks = 2 if name == "tasks" else 1
        task, some = task_of(PLANS[name], mask=0.1), rows(64, tasks)
        return [task.step(ClickBatch(some, 0)) for _ in range(40)]

    first, second = losses(), losses()
    assert first == second
    assert np.mean(first[-5:]) < 0.8 * first[0]


def test_pairs_are_all_inner_products():
    fields = torch.randn(5, 4, 3)
    expected = sum((fields[:, i] * fields[:, j]).sum(1) for i in range(4) for j in range(i + 1, 4))
    torch.testing.assert_close(Pairs([(4, 3)])(fields)[:, 0], expected)
    torch.testing.assert_close(Dots([(4, 3)])(fields).sum(1), expected)


def test_cross_layers_are_equation_one():
    block, x = Cross([(6,)], layers=2), torch.randn(3, 6)
    expected = x
    for layer in block.layers:
        expected = x * (expected @ layer.weight.T + layer.bias) + expected
    torch.testing.assert_close(block(x), expected)


def test_the_mixture_is_equation_four():
    block, x = CrossMixture([(6,)], layers=1, experts=2, rank=3), torch.randn(4, 6)
    torch.nn.init.normal_(block.gate)
    gate = torch.softmax(x @ block.gate[0].T, dim=1)
    parts = []
    for expert in range(2):
        small = torch.tanh(block.core[0, expert] @ torch.tanh(block.down[0, expert] @ x.T))
        parts.append(gate[:, expert, None] * (x * ((block.up[0, expert] @ small).T + block.bias[0])))
    torch.testing.assert_close(block(x), sum(parts) + x)


def test_factorised_layers_double_the_order():
    block, x = Factorised([(3,)], widths=(2,)), torch.randn(4, 3)
    one, other = (x @ block.layers[0].weight.T + block.layers[0].bias).chunk(2, 1)
    torch.testing.assert_close(block(x), torch.relu(one * (1 + other)))


def test_a_chain_multiplies_probabilities():
    logits = torch.randn(6, 3)
    torch.testing.assert_close(torch.sigmoid(Chain([(3,)])(logits)), torch.sigmoid(logits).cumprod(1))


def test_focal_loss_is_its_formula():
    task = task_of(PLANS["linear"], loss="focal", gamma=2.0)
    logits, some = torch.tensor([[0.3], [-1.2]]), Labelled(rows(2).batch, np.array([[1], [0]], np.uint8))
    right = torch.sigmoid(torch.tensor([0.3, 1.2]))
    expected = (-((1 - right) ** 2) * right.log()).mean()
    torch.testing.assert_close(task._loss(logits, some), expected)


def test_gates_close_under_their_penalty():
    plan = [step("gated", "gates", "fields"), *PLANS["gates"][1:]]
    free, pressed = task_of(plan), task_of(plan, gate_l1=1.0)
    for seed in range(40):
        free.step(ClickBatch(rows(seed=seed), 0))
        pressed.step(ClickBatch(rows(seed=seed), 0))
    assert (
        np.abs(pressed.engine().weights["gated.gate"]).sum() < 0.5 * np.abs(free.engine().weights["gated.gate"]).sum()
    )
