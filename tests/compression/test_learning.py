"""Steps that learn: fine-tuning that knows of rounding and of zeros, and students."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leanrec.compression import STEPS
from leanrec.compression.distil import DistilConfig, labels_of
from leanrec.compression.encoder import dense_layers
from leanrec.compression.learning.network import network_of
from leanrec.compression.learning.tuning import movement, tune
from leanrec.compression.masks import mask_of
from leanrec.core.errors import ConfigError, InputError
from leanrec.models import MODELS
from leanrec.nn.packing import Packed
from leanrec.nn.rounded import RoundedLinear, round_linears
from leanrec.runtime.dense import DENSE
from leanrec.training.soft import SoftLabels, soft_loss
from tests.compression.contract import StepContract, answers, encoded
from tests.compression.toys import DIM, popular, transformer, work, world


class TestQuantiseAware(StepContract):
    entry: ClassVar[Any] = {"step": "quantise-aware", "precision": "int4-weight", "epochs": 2}


class TestQuantiseAwareStatic(StepContract):
    entry: ClassVar[Any] = {"step": "quantise-aware", "precision": "int8-static", "epochs": 1}
    error = 0.3


class TestGradual(StepContract):
    entry: ClassVar[Any] = {"step": "sparsify", "sparsity": 0.8, "epochs": 2, "score": "magnitude"}


class TestGradualByMovement(StepContract):
    entry: ClassVar[Any] = {"step": "sparsify", "pattern": "block", "sparsity": 0.5, "epochs": 2, "score": "movement"}


class TestPruneAndTune(StepContract):
    entry: ClassVar[Any] = {"step": "prune", "heads": 0.5, "channels": 0.5, "epochs": 2, "score": "movement"}


class TestDistil(StepContract):
    entry: ClassVar[Any] = {
        "step": "distil", "model": "gru4rec", "top": 5, "events": 200,
        "settings": {"dim": 8, "epochs": 2, "negatives": 16, "table": "dense"},
    }  # fmt: skip
    encoders = False


@pytest.mark.parametrize(("block", "positions"), [("sasrec", "learned"), ("ligr", "rotary")])
@pytest.mark.parametrize("pruned", [False, True])
def test_the_network_is_the_engine(block: str, positions: str, pruned: bool) -> None:
    model = transformer(block, positions)
    if pruned:
        model, _ = STEPS["prune"](layers=0.67, heads=0.5, channels=0.5).apply(model, work())
    _, _, net = network_of(model, world())
    history = work().histories.slice(3, 4).last(8)
    items = model.source.index.items_ND[history.values]  # type: ignore[attr-defined]
    length = len(items)
    packed = Packed(torch.zeros(1, length, dtype=torch.int64), torch.arange(length)[None], True)
    net.eval()
    with torch.no_grad():
        found = net(torch.from_numpy(items)[None], packed)[0, -1].numpy()
    np.testing.assert_allclose(found, model.source.engine.encode(history)[0], atol=2e-4)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["gru4rec", "caser", "hstu", "bert4rec"])
def test_other_families_are_tuned_too(name: str) -> None:
    model = MODELS[name](dim=8, epochs=1, negatives=16).fit(world(), track=())
    tuned, facts = tune(model, work(), epochs=1, lr=1e-3)
    assert facts["epochs"] == 1 and len(facts["validation"]) == 1
    assert np.abs(encoded(tuned) - encoded(model)).max() > 0
    np.testing.assert_array_equal(tuned.source.index.items_ND, model.source.index.items_ND)  # type: ignore[attr-defined]


def test_tuning_brings_back_what_pruning_lost() -> None:
    model = MODELS["sasrec"](dim=16, epochs=12, negatives=32, dropout=0.1).fit(world(), track=())
    losses = []
    for epochs in (0, 6):
        step = STEPS["prune"](heads=0.5, channels=0.1, layers=0.5, epochs=epochs, lr=2e-3)
        lean, record = step.apply(model, work())
        assert record.applied
        losses.append(_score(lean))
    assert losses[1] > losses[0]


def _score(model: Any) -> float:
    from leanrec.compression.agreement import Agreement

    return Agreement(model, work(), "ndcg@10").score(model)


def test_movement_is_weight_times_gradient() -> None:
    found = movement(transformer(), work(), batches=2)
    assert found["blocks.0.down.weight"].shape == (DIM, 24)
    assert all(np.isfinite(array).all() and np.abs(array).max() > 0 for name, array in found.items() if "up" in name)
    again = movement(transformer(), work(), batches=2)
    np.testing.assert_array_equal(found["blocks.0.up.weight"], again["blocks.0.up.weight"])


def test_zeros_are_as_many_as_asked_for() -> None:
    after, record = STEPS["sparsify"](sparsity=0.75, epochs=2, lr=1e-3).apply(transformer(), work())
    assert record.facts["epochs"] == 2
    for layer in dense_layers(after, kinds=["sparse-csr"]).values():
        assert (layer.weight() == 0).mean() == pytest.approx(0.75, abs=0.02)


def test_time_is_kept() -> None:
    _, record = STEPS["quantise-aware"](epochs=10_000).apply(transformer(), work(seconds=0.2))
    assert record.applied and record.facts["epochs"] < 1000


@settings(max_examples=20, deadline=None)
@given(
    outputs=st.integers(1, 6), dim=st.integers(1, 70), seed=st.integers(0, 1000),
    kind=st.sampled_from(["int8", "int8-static", "int8-weight", "bfloat16"]),
)  # fmt: skip
def test_rounded_layers_compute_what_dense_ones_will(outputs: int, dim: int, seed: int, kind: str) -> None:
    torch.manual_seed(seed)
    plain = nn.Linear(dim, outputs)
    x = torch.randn(3, dim)
    rounded = RoundedLinear(plain, kind, 8.0)
    layer = DENSE[kind].encode(plain.weight.detach().numpy(), plain.bias.detach().numpy())
    np.testing.assert_allclose(rounded(x).detach().numpy(), layer(x.numpy()), atol=2e-3)
    rounded(x).sum().backward()
    assert plain.weight.grad is not None
    torch.testing.assert_close(plain.weight.grad, rounded._inputs(x).sum(0).expand(outputs, dim).detach())


def test_int4_in_training_is_near_int4_in_service() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(100, 7)
    net = nn.Sequential(plain)
    round_linears(net, {"0": "int4-weight"}, {})
    assert isinstance(net[0], RoundedLinear) and net[0].weight is plain.weight
    x = torch.randn(50, 100)
    exact, rounded = plain(x).detach(), net(x).detach()
    served = DENSE["int4-weight"].encode(plain.weight.detach().numpy(), plain.bias.detach().numpy())(x.numpy())
    errors = [float(((torch.as_tensor(other) - exact) ** 2).mean()) for other in (rounded, served)]
    assert 0 < errors[1] <= 1.2 * errors[0]


def test_labels_of_teachers_by_hand() -> None:
    train, config = world().train(), DistilConfig(top=4, events=30)
    teachers = [transformer(), popular()]
    labels = labels_of(teachers, train, config, seed=3)
    asked = np.flatnonzero(labels.row_E >= 0)
    assert len(asked) == 30
    np.testing.assert_allclose(labels.share_PM.sum(axis=1), 1, atol=1e-6)
    user_T = train.row_of()
    for event in asked[:5]:
        user = user_T[event]
        assert event + 1 < train.offsets[user + 1]
        history = train.values[train.offsets[user] : event + 1]
        wanted: dict[int, float] = {}
        for teacher in teachers:
            from leanrec.core.jagged import Jagged

            hits, _ = teacher.rank(Jagged.from_rows([history]), 4)
            wanted |= {int(item): wanted.get(int(item), 0) + 1 for item in hits.items_BK[0]}
        row = labels.row_E[event]
        assert {int(i) for i, s in zip(labels.items_PM[row], labels.share_PM[row], strict=True) if s > 0} == set(wanted)
    soft = labels.at(np.asarray([asked[0], len(labels.row_E) - 1]))
    assert soft.share_TM[1].sum() == 0 and soft.share_TM[0].sum() == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), negatives=st.integers(0, 6))
def test_soft_loss_by_hand(seed: int, negatives: int) -> None:
    rng = np.random.default_rng(seed)
    hidden, leaf = rng.standard_normal((4, 3)), rng.standard_normal((9, 3))
    items = np.stack([rng.permutation(9)[:3] for _ in range(4)])
    share = rng.random((4, 3))
    share[1], share[2, 0] = 0, 0
    share /= np.maximum(share.sum(axis=1, keepdims=True), 1e-9)
    drawn, expected = rng.integers(0, 9, negatives), rng.standard_normal(negatives)
    total = 0.0
    for t in (0, 2, 3):
        own = {int(i): float(hidden[t] @ leaf[i]) for i, s in zip(items[t], share[t], strict=True) if s > 0}
        others = [hidden[t] @ leaf[j] - e for j, e in zip(drawn, expected, strict=True) if j not in items[t]]
        norm = np.log(sum(np.exp([*own.values(), *others])))
        total -= sum(s * (own[int(i)] - norm) for i, s in zip(items[t], share[t], strict=True) if s > 0) / 3
    given = (torch.from_numpy(array) for array in (hidden, leaf, items, share, drawn, expected))
    assert float(soft_loss(*given)) == pytest.approx(total, rel=1e-5)


def test_a_student_learns_from_its_teacher() -> None:
    teacher = MODELS["sasrec"](dim=16, epochs=15, negatives=32, dropout=0.1).fit(world(), track=())
    few: dict[str, Any] = {"dim": 16, "epochs": 4, "negatives": 32, "dropout": 0.1}
    agreed = []
    for share in (1e-9, 0.8):
        student, _ = STEPS["distil"](model="sasrec", settings=few, share=share, top=10).apply(teacher, work())
        shared = [
            len(set(a) & set(b)) for a, b in zip(answers(teacher).tolist(), answers(student).tolist(), strict=True)
        ]
        agreed.append(np.mean(shared))
    assert agreed[1] > agreed[0]


def test_who_cannot_be_student_or_teacher(tmp_path: Path) -> None:
    model = transformer()
    for entry, said in (
        ({"model": "bert4rec"}, "bert4rec does not predict what comes next"),
        ({"model": "ease"}, "ease does not predict what comes next"),
        ({"settings": {"dims": 8}}, "unknown key 'dims'"),
        ({"share": 0}, "share=0.0 is not a share"),
    ):
        with pytest.raises(ConfigError, match=said):
            STEPS["distil"](**entry).apply(model, work())
    from leanrec.core.ids import Vocabulary
    from leanrec.runtime.recommender import Recommender

    other = Recommender(model.source, Vocabulary([f"x{i}" for i in range(len(model.items))]), repeats=True)
    other.save(tmp_path / "b")
    with pytest.raises(InputError, match="has other items"):
        STEPS["distil"](teachers=[str(tmp_path / "b")]).apply(model, work())


def test_several_teachers_and_accumulated_steps(tmp_path: Path) -> None:
    model = transformer()
    model.save(tmp_path / "b")
    few = {"dim": 8, "epochs": 1, "negatives": 16, "accumulate": 2}
    step = STEPS["distil"](teachers=[str(tmp_path / "b")], settings=few, top=3, events=100)
    student, record = step.apply(popular(), work())
    assert record.applied and record.facts["teachers"] == 2 and record.facts["events"] == 100
    assert student.source.kind == "embedding" and student.card["teacher"] == "popular"


def test_labels_know_their_events() -> None:
    labels = SoftLabels(np.asarray([-1, 0], np.int32), np.asarray([[3]], np.int32), np.asarray([[1.0]], np.float32))
    soft = labels.at(np.asarray([1, 0]))
    assert soft.items_TM[0, 0] == 3 and soft.share_TM[:, 0].tolist() == [1, 0]
    assert mask_of(np.ones((1, 1)), "free", 1.0).tolist() == [[False]]
