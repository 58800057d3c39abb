"""Steps that change how item vectors are kept: what every one promises, and what each is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from leanrec.compression import STEPS
from leanrec.compression.base import make_step
from leanrec.compression.tables import sample_queries, weighting_of
from leanrec.compression.verify import verify
from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.space import Choice
from leanrec.core.tensors import serialize
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.index.exact import ExactIndex
from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

from .test_compress import histories, model, work


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    pl = pytest.importorskip("polars")
    users = np.repeat(np.arange(120), 8)
    walk = (users * 7 + rng.integers(0, 9, len(users))) % 60
    frame = pl.DataFrame({"user_id": users, "item_id": walk, "timestamp": np.arange(len(users)) + 1.6e9})
    return prepare(frame, split="leave-one-out", repeats=True)


def ridge(data: Dataset) -> Recommender:
    table = np.random.default_rng(3).standard_normal((len(data.items), 16), dtype=np.float32)
    engine = FactorsEngine(
        FactorsConfig(fold="ridge", regularisation=0.1), {"spectrum": np.full(16, 0.5, np.float32)}, table
    )
    return Recommender(EmbeddingSource("ridge", engine, ExactIndex.build(table)), data.items, repeats=True)


class VectorStepContract:
    """Shape, save -> load equal, loss reported, idempotent; the model it was given is left as it was."""

    step: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}
    least: ClassVar[float] = 1.5
    """Times fewer bytes."""
    error: ClassVar[float]

    @pytest.mark.parametrize("make", [model, ridge])
    def test_contract(self, data: Dataset, make: Any, tmp_path: Path) -> None:
        before = make(data)
        table_ND = before.source.items.table().copy()
        after, record = make_step({"step": self.step, **self.settings}).apply(before, work(data))
        assert record.applied
        assert isinstance(before.source.index, ExactIndex)
        np.testing.assert_array_equal(before.source.items.table(), table_ND)
        vectors = after.source.items
        assert vectors.shape == table_ND.shape
        assert vectors.nbytes == record.facts["bytes_after"]
        assert record.facts["bytes_before"] == table_ND.nbytes
        assert record.facts["bytes_before"] / record.facts["bytes_per_item"] / len(vectors) >= self.least
        measured = np.square(vectors.table() - table_ND).sum() / np.square(table_ND).sum()
        assert record.facts["error"] == pytest.approx(measured, rel=1e-3, abs=1e-9)
        assert record.facts["error"] <= self.error
        after.save(tmp_path / "b")
        stored = Recommender.load(tmp_path / "b")
        asked = histories(data)
        for one, other in zip(*(m.rank(asked, 10)[0].items_BK for m in (after, stored)), strict=True):
            np.testing.assert_array_equal(one, other)
        assert stored.id == after.id
        assert len(verify(tmp_path / "b").checks) == 2
        again, record = make_step({"step": self.step, **self.settings}).apply(after, work(data))
        assert again is after
        assert "already" in record.said

    def test_everything_in_its_space_can_be_built(self) -> None:
        kind = STEPS[self.step]
        for key, dimension in kind.Config.space.items():
            values = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
            for value in values:
                assert getattr(make_step({"step": self.step, key: value}).config, key) == value


class TestBfloat16(VectorStepContract):
    step, settings, least, error = "items", {"kind": "bfloat16"}, 2, 1e-5


class TestInt8(VectorStepContract):
    step, least, error = "items", 3, 1e-4


class TestInt4(VectorStepContract):
    step, settings, least, error = "items", {"kind": "int4"}, 5, 0.01


class TestAskedInt4(VectorStepContract):
    step, settings, least, error = "items", {"kind": "int4", "asked": 0.9}, 5, 0.05


class TestInt2(VectorStepContract):
    step, settings, least, error = "items", {"kind": "int2"}, 7, 0.2


class TestProduct(VectorStepContract):
    # Sixty items cannot pay for 256 pieces: the error is what is looked at here.
    step, settings, least, error = "items", {"kind": "product", "code_bytes": 4}, 0.3, 0.01


class TestLearnedProduct(VectorStepContract):
    step, settings, least, error = "items", {"kind": "product", "code_bytes": 4, "epochs": 1}, 0.3, 0.1


class TestLowRank(VectorStepContract):
    step, settings, least, error = "low-rank-items", {"share": 0.5}, 1.5, 0.6


class TestDropDimensions(VectorStepContract):
    step, settings, least, error = "drop-dimensions", {"share": 0.5}, 1.5, 0.6


class TestShare(VectorStepContract):
    step, settings, least, error = "share-items", {"own": 0.5, "clusters": 8}, 3, 0.5


def test_shared_vectors_can_be_product_codes(data: Dataset) -> None:
    codes = {"step": "share-items", "own": 0.5, "clusters": 8, "kind": "product", "code_bytes": 2}
    lean, record = make_step(codes).apply(model(data), work(data))
    assert record.applied
    assert lean.source.items.distinct.kind == "low-rank"
    assert lean.source.items.distinct.factors.kind == "product"
    with pytest.raises(ConfigError, match="kind is one of float32, bfloat16"):
        make_step({"step": "share-items", "kind": "shared"})
    assert make_step({"step": "share-items"}).config.idle() == ("code_bytes",)


def test_low_rank_factors_can_be_kept_in_few_bytes(data: Dataset) -> None:
    half, _ = make_step({"step": "low-rank-items", "share": 0.5}).apply(model(data), work(data))
    lean, record = make_step({"step": "items", "kind": "int8"}).apply(half, work(data))
    assert record.applied
    assert lean.source.items.kind == "low-rank"
    assert lean.source.items.nbytes < half.source.items.nbytes / 2
    codes, record = make_step({"step": "items", "kind": "product", "code_bytes": 4}).apply(half, work(data))
    assert record.applied
    assert codes.source.items.shape == half.source.items.shape


def test_steps_for_float32_leave_coded_vectors_alone(data: Dataset) -> None:
    lean, _ = make_step({"step": "items", "kind": "int4"}).apply(model(data), work(data))
    again, record = make_step("int8-items").apply(lean, work(data))
    assert again is lean
    assert not record.applied


def test_impossible_settings_are_named(data: Dataset) -> None:
    with pytest.raises(ConfigError, match="kind is one of"):
        make_step({"step": "items", "kind": "int3"})
    lean, _ = make_step({"step": "items", "kind": "product", "code_bytes": 11}).apply(model(data), work(data))
    assert lean.source.items.factors.codes_NM.shape == (len(data.items), 8)  # two values a byte


def test_only_users_that_tune_are_asked(data: Dataset) -> None:
    queries = sample_queries(ridge(data), work(data), count=1000)
    assert len(queries) == (~data.certify).sum()
    weighting = weighting_of(ridge(data).source, queries, work(data), targets=1.0, asked=1.0)
    assert weighting.rows_N is not None
    assert weighting.metric_DD is not None
    np.testing.assert_array_equal(weighting.rows_N - 1, np.bincount(data.train().values, minlength=len(data.items)))
    assert np.linalg.eigvalsh(weighting.metric_DD).min() > -1e-9


def test_arrays_of_another_kind_are_refused(data: Dataset, tmp_path: Path) -> None:
    """Codes under the name of another kind, and codes that point to no vector."""
    lean, _ = make_step({"step": "items", "kind": "int4"}).apply(model(data), work(data))
    source = lean.source
    config, parts = source.config(), dict(source.parts())
    with pytest.raises(BundleError, match="do not fit together"):
        EmbeddingSource.load("x", {**config, "items": {"kind": "int8", "config": {"dim": 16}}}, parts)
    with pytest.raises(BundleError, match="unknown kind of item vectors"):
        EmbeddingSource.load("x", {**config, "items": {"kind": "int3", "config": {}}}, parts)
    shared, _ = make_step({"step": "share-items", "clusters": 4}).apply(model(data), work(data))
    parts = {name: dict(part) for name, part in shared.source.parts().items()}
    parts["items"]["place"] = parts["items"]["place"] + np.uint16(60)
    with pytest.raises(BundleError, match="do not fit together"):
        EmbeddingSource.load("x", shared.source.config(), parts)
    assert serialize(parts["items"])


def test_the_table_that_histories_are_folded_in_from_is_kept_alike(data: Dataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    table, inputs = rng.standard_normal((2, len(data.items), 16), dtype=np.float32)
    engine = FactorsEngine(FactorsConfig(fold="mean"), {"inputs": inputs}, table)
    before = Recommender(EmbeddingSource("mean", engine, ExactIndex.build(table)), data.items, repeats=True)
    after, record = make_step({"step": "items", "kind": "int8"}).apply(before, work(data))
    assert record.facts["bytes_before"] == 2 * table.nbytes
    assert record.facts["bytes_after"] == 2 * len(table) * 20
    exact, coded = (m.source.engine.encode(histories(data)) for m in (before, after))
    assert 0 < np.abs(exact - coded).max() < 0.1
    after.save(tmp_path / "b")
    np.testing.assert_array_equal(Recommender.load(tmp_path / "b").source.engine.encode(histories(data)), coded)
    with pytest.raises(BundleError, match="input vectors"):
        after.source.engine.with_inputs(after.source.engine.inputs, after.source.items.added(table[:2]))
