"""Every step on dense layers keeps the contract, and what it decides is what its numbers say."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.compression import STEPS, quantise
from leanrec.compression.agreement import Agreement
from leanrec.compression.base import make_step
from leanrec.compression.encoder import calibration, dense_layers, in_rows, observe, with_layers
from leanrec.compression.masks import mask_of
from leanrec.compression.prune import refit, refit_rows
from leanrec.compression.sensitivity import groups
from leanrec.core.errors import ConfigError
from leanrec.runtime.dense import DENSE, Inputs
from tests.compression.contract import StepContract, encoded
from tests.compression.toys import DIM, HEADS, HIDDEN, transformer, work, world


class TestInt8Weight(StepContract):
    entry: ClassVar[Any] = {"step": "quantise", "precision": "int8-weight", "pays": "bytes"}


class TestInt4Weight(StepContract):
    entry: ClassVar[Any] = {"step": "quantise", "precision": "int4-weight", "pays": "bytes"}


class TestBFloat16(StepContract):
    entry: ClassVar[Any] = {"step": "quantise", "precision": "bfloat16", "pays": "bytes"}


class TestInt8(StepContract):
    entry: ClassVar[Any] = {"step": "quantise", "precision": "int8", "pays": "bytes", "layers": ["*.up", "*.down"]}
    error = 0.01


class TestInt8Static(StepContract):
    entry: ClassVar[Any] = {"step": "quantise", "precision": "int8-static", "pays": "bytes"}
    error = 0.3


class TestMixed(StepContract):
    entry: ClassVar[Any] = {"step": "mixed-precision", "tolerance": 0.2, "users": 60}


class TestLowRank(StepContract):
    entry: ClassVar[Any] = {"step": "low-rank", "energy": 0.9, "pays": "bytes"}


class TestLowRankBudget(StepContract):
    entry: ClassVar[Any] = {"step": "low-rank", "budget": 0.5, "pays": "bytes", "whiten": False}


class TestPrune(StepContract):
    entry: ClassVar[Any] = {"step": "prune", "layers": 0.67, "heads": 0.5, "channels": 0.5}


class TestPruneByMagnitude(StepContract):
    entry: ClassVar[Any] = {"step": "prune", "heads": 0.25, "channels": 0.3, "score": "magnitude"}


class TestSparse(StepContract):
    entry: ClassVar[Any] = {"step": "sparsify", "sparsity": 0.9}


class TestSparse2of4(StepContract):
    entry: ClassVar[Any] = {"step": "sparsify", "pattern": "2:4"}


class TestSparseBlock(StepContract):
    entry: ClassVar[Any] = {"step": "sparsify", "pattern": "block", "sparsity": 0.6, "score": "magnitude"}


@pytest.mark.parametrize("block", ["sasrec", "ligr"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_pruning_shrinks_arrays(block: str, positions: str) -> None:
    before = transformer(block, positions)
    after, record = STEPS["prune"](layers=0.67, heads=0.5, channels=0.25).apply(before, work())
    assert len(record.facts["layers_gone"]) == 1
    assert record.facts["heads"] == [HEADS // 2] * 2 and record.facts["channels"] == [HIDDEN // 4] * 2
    engine: Any = after.source.engine  # type: ignore[attr-defined]
    assert engine.config()["layers"] == 2
    shapes = {name: array.shape for name, array in engine.tensors().items()}
    inner, gated = DIM // 2, 1 + (block == "ligr")
    assert shapes["blocks.0.attention.qkv.weight"] == (3 * inner, DIM)
    assert shapes["blocks.1.attention.out.weight"] == (DIM, inner)
    assert shapes["blocks.1.up.weight"] == (gated * HIDDEN // 4, DIM)
    assert "blocks.2.up.weight" not in shapes
    assert record.facts["bytes_after"] < 0.6 * record.facts["bytes_before"]
    same, record = STEPS["prune"]().apply(before, work())
    assert same is before and "leave small as it is" in record.said


def test_channels_that_do_nothing_go_first() -> None:
    before = transformer()
    tensors = dict(before.source.engine.tensors())  # type: ignore[attr-defined]
    for layer in range(3):
        weight = tensors[f"blocks.{layer}.down.weight"].copy()
        weight[:, ::2] = 0
        tensors[f"blocks.{layer}.down.weight"] = weight
    from leanrec.compression.encoder import with_tensors

    idle = with_tensors(before, tensors)
    for score in ("output", "magnitude"):
        after, _ = STEPS["prune"](channels=0.5, score=score).apply(idle, work())
        np.testing.assert_allclose(encoded(after), encoded(idle), atol=2e-3)


def test_what_stays_takes_over_from_what_goes() -> None:
    rng = np.random.default_rng(0)
    x_TD = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 10))
    inputs = Inputs(x_TD.T @ x_TD / 300, np.zeros(1, np.int64))
    weight = rng.standard_normal((4, 10)).astype(np.float32)
    kept = np.asarray([1, 4, 7])
    less = refit(weight, kept, inputs)
    best = np.linalg.lstsq(x_TD[:, kept], x_TD @ weight.T, rcond=None)[0].T
    np.testing.assert_allclose(less, best, rtol=0.02, atol=0.02)


def test_rows_are_fitted_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    x_TD = rng.standard_normal((300, 4)) @ rng.standard_normal((4, 10)) + 0.1 * rng.standard_normal((300, 10))
    inputs = Inputs(x_TD.T @ x_TD / 300, np.zeros(1, np.int64))
    weight = rng.standard_normal((5, 10)).astype(np.float32)
    kept = mask_of(np.abs(weight).astype(np.float64), "free", 0.6)
    kept[2] = False
    fitted = refit_rows(weight, kept, inputs)
    assert (fitted[~kept] == 0).all()
    for row in range(5):
        alone = refit(weight[row : row + 1], np.flatnonzero(kept[row]), inputs)
        np.testing.assert_allclose(fitted[row, kept[row]], alone[0], rtol=1e-4, atol=1e-5)
    cut, exact = np.where(kept, weight, 0), x_TD @ weight.T
    assert ((x_TD @ fitted.T - exact) ** 2).sum() < ((x_TD @ cut.T - exact) ** 2).sum()


def test_what_does_not_pay_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    before = transformer()
    monkeypatch.setattr(quantise, "time_layers", lambda layers, tokens: 1e-5)
    for name in ("quantise", "low-rank"):
        same, record = STEPS[name]().apply(before, work())
        assert same is before and not record.applied
        assert record.said.startswith("dropped, it does not pay on this machine: ")
        assert record.facts["bytes_after"] < record.facts["bytes_before"]
    same, record = STEPS["quantise"](precision="int8-static", pays="time").apply(before, work())
    assert same is before
    clock = iter([2e-5, 1e-5])
    monkeypatch.setattr(quantise, "time_layers", lambda layers, tokens: next(clock))
    assert STEPS["quantise"]().apply(before, work())[1].applied


def test_the_table_of_sensitivity() -> None:
    before = transformer()
    step = STEPS["mixed-precision"](tolerance=0.05, users=40, precisions=["int8-weight", "int4-weight"])
    after, record = step.apply(before, work())
    table = record.facts["sensitivity"]
    layers = dense_layers(before)
    assert {row["layer"] for row in table} == {*layers, *groups(list(layers)), "*"}
    assert {row["layer"] for row in table if row["group"]} == {*groups(list(layers)), "*"}
    assert all(row["after"] < row["before"] and row["loss"] <= 1 for row in table)
    judge = Agreement(before, work(), "overlap@10", 40)
    one = next(row for row in table if row["layer"] == "blocks.0.up" and row["precision"] == "int4-weight")
    layer = layers["blocks.0.up"]
    seen = observe(before, layers, calibration(before, work(), 512))
    alone = with_layers(
        before, {"blocks.0.up": DENSE["int4-weight"].encode(layer.weight(), layer.bias, seen["blocks.0.up"])}
    )
    assert one["loss"] == pytest.approx(judge.loss(alone))
    assert judge.loss(after) == pytest.approx(record.facts["loss"])
    assert record.facts["loss"] <= 0.05
    kinds = {name: layer.kind for name, layer in dense_layers(after, kinds=None).items()}
    assert {name: kind for name, kind in kinds.items() if kind != "float32"} == record.facts["precisions"]
    strict, record = STEPS["mixed-precision"](tolerance=-1.0, users=40).apply(before, work())
    assert strict is before and record.said.startswith("nothing is cheaper within")


def test_groups_of_layers() -> None:
    assert groups(["blocks.0.up", "blocks.0.down", "blocks.1.up", "out"]) == {
        "blocks.0": ["blocks.0.up", "blocks.0.down"], "*.up": ["blocks.0.up", "blocks.1.up"],
    }  # fmt: skip


def test_agreement_by_hand() -> None:
    before = transformer()
    judge = Agreement(before, work(), "overlap@10", 30)
    assert len(judge.histories) == 30 and judge.loss(before) == 0
    other = transformer("sasrec")
    mine, theirs = (model.rank(judge.histories, 10)[0].items_BK for model in (before, other))
    shared = [len(set(a) & set(b)) for a, b in zip(mine.tolist(), theirs.tolist(), strict=True)]
    assert judge.loss(other) == pytest.approx(1 - sum(shared) / 300)
    assert Agreement(before, work(), "ndcg@5", 30).loss(before) == 0
    with pytest.raises(ConfigError, match="write overlap@10"):
        Agreement(before, work(), "overlap")


@settings(max_examples=40, deadline=None)
@given(
    outputs=st.integers(1, 20), dim=st.integers(1, 30), sparsity=st.floats(0, 1), seed=st.integers(0, 2**32 - 1),
    pattern=st.sampled_from(["free", "2:4", "block"]),
)  # fmt: skip
def test_masks_keep_what_is_worth_most(outputs: int, dim: int, sparsity: float, seed: int, pattern: Any) -> None:
    worth = np.random.default_rng(seed).random((outputs, dim))
    kept = mask_of(worth, pattern, sparsity)
    assert kept.shape == worth.shape
    if pattern == "free":
        assert (~kept).sum() == round(sparsity * worth.size)
        if kept.any() and not kept.all():
            assert worth[kept].min() >= worth[~kept].max()
    if pattern == "2:4":
        half = mask_of(worth, pattern, 1.0)
        quads = np.pad(half, ((0, 0), (0, -dim % 4))).reshape(outputs, -1, 4)
        assert (quads.sum(axis=2) <= 2).all()
        assert (kept | ~half).all() or (kept >= half).all()
    if pattern == "block":
        for row in range(0, outputs, 8):
            for column in range(0, dim, 8):
                block = kept[row : row + 8, column : column + 8]
                assert block.all() or not block.any()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"step": "low-rank", "energy": 0}, "energy=0.0 is not a share"),
        ({"step": "low-rank", "budget": 2}, "budget=2.0 is not a share"),
        ({"step": "prune", "heads": 0}, "heads=0.0 is not a share"),
        ({"step": "sparsify", "sparsity": 1}, "sparsity=1.0 is not a share"),
        ({"step": "sparsify", "score": "movement"}, "set epochs, or use score=output"),
        ({"step": "quantise", "precision": "int3"}, "Invalid enum value 'int3'"),
    ],
)
def test_settings_that_cannot_be(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_step(entry).apply(transformer(), work())


def test_calibration_asks_users_that_tune() -> None:
    data = world()
    taken = calibration(transformer(), work(), 20)
    assert len(taken) == 20
    known = data.train()
    tuning = {tuple(known[user]) for user in np.flatnonzero(~data.certify)}
    assert all(tuple(row) in tuning for row in taken)


def test_layers_of_another_kind_are_not_taken_for_matrices() -> None:
    sparse, record = STEPS["sparsify"](pattern="2:4").apply(transformer(), work())
    assert record.applied
    same, record = STEPS["int8-dense"]().apply(sparse, work())
    assert same is sparse and record.said == "small has no dense layers in float32"


def test_a_model_with_other_rows_is_asked_in_its_own() -> None:
    from leanrec.core.ids import Vocabulary
    from leanrec.runtime.recommender import Recommender

    before, data = transformer(), world()
    turned = Vocabulary(data.items.ids()[::-1][:-5] + list(range(1000, 1005)))
    other = Recommender(before.source, turned, repeats=True)
    mapped = in_rows(other, data, data.train())
    at = 17
    kept = [item for item in data.items.ids(data.train()[at]) if item in set(turned.ids())]
    assert turned.ids(mapped[at]) == kept
    assert Agreement(other, work(), "ndcg@10", 50).loss(other) == 0
    assert STEPS["quantise"](pays="bytes").apply(other, work())[1].applied
    from leanrec.core.errors import InputError

    with pytest.raises(InputError, match="tune it on what it was trained on"):
        STEPS["quantise-aware"]().apply(other, work())
