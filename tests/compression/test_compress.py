"""Compressing a small transformer: the steps, what is judged and measured, and what verifying finds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from leanrec.compression import STEPS, int8
from leanrec.compression import compress as compressing
from leanrec.compression.base import STAGES, Plan, Step, StepConfig, StepRecord, Work, make_step, read_plan, with_source
from leanrec.compression.compress import compress, compress_with_report
from leanrec.compression.measure import measure
from leanrec.compression.verify import verify
from leanrec.core.errors import BundleError, ConfigError, InputError, MachineError, PromiseError
from leanrec.core.jagged import Jagged
from leanrec.core.registry import Entry
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.index.certified import CertifiedInt8Index
from leanrec.index.exact import ExactIndex
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

DIM, LAYERS = 16, 2


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    pl = pytest.importorskip("polars")
    users = np.repeat(np.arange(120), 8)
    walk = (users * 7 + rng.integers(0, 9, len(users))) % 60
    frame = pl.DataFrame({"user_id": users, "item_id": walk, "timestamp": np.arange(len(users)) + 1.6e9})
    return prepare(frame, split="leave-one-out", repeats=True)


def tensors(block: str) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {"positions.weight": (10, DIM)}
    dense = {"attention.qkv": (3 * DIM, DIM), "attention.out": (DIM, DIM), "up": (2 * DIM, DIM), "down": (DIM, 2 * DIM)}
    if block == "ligr":
        dense |= {"up": (4 * DIM, DIM), "gate1": (DIM, DIM), "gate2": (DIM, DIM)}
    for layer in range(LAYERS):
        for name, shape in dense.items():
            shapes[f"blocks.{layer}.{name}.weight"] = shape
            shapes[f"blocks.{layer}.{name}.bias"] = shape[:1]
    arrays = {name: rng.standard_normal(shape).astype(np.float32) * np.float32(0.2) for name, shape in shapes.items()}
    for norm in ("norm", *(f"blocks.{layer}.norm{n}" for layer in range(LAYERS) for n in (1, 2))):
        arrays |= {f"{norm}.weight": np.ones(DIM, np.float32), f"{norm}.bias": np.zeros(DIM, np.float32)}
    return arrays


def model(data: Dataset, block: str = "sasrec") -> Recommender:
    table = np.random.default_rng(2).standard_normal((len(data.items), DIM), dtype=np.float32)
    shape = TransformerShape(block=block, dim=DIM, layers=LAYERS, heads=2, max_length=10)
    engine = TransformerEngine(shape, tensors(block), table)
    return Recommender(EmbeddingSource("small", engine, ExactIndex.build(table)), data.items, repeats=True)


def histories(data: Dataset) -> Jagged:
    return data.cases("test").histories


def work(data: Dataset) -> Work:
    return Work(histories=histories(data), data=data)


def dense_pays(monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    monkeypatch.setattr(int8, "_time_layers", lambda *_: (2e-5, 1e-5) if pays else (1e-5, 2e-5))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressing, "measure", partial(measure, seconds=0.1))
    dense_pays(monkeypatch, False)


def test_int8_items_give_the_same_answers_from_fewer_bytes(data: Dataset) -> None:
    before = model(data)
    after, record = STEPS["int8-items"]().apply(before, work(data))
    assert record.applied
    rows = len(data.items)
    panels, blocks = -(-rows // 32), -(-rows // 512)
    now = 32 * panels * DIM + rows * 5 + 4 * blocks
    assert record.facts == {"bytes_before": rows * (4 * DIM + 4), "bytes_after": now}
    assert isinstance(before.source.index, ExactIndex)  # the one it was given is left as it was
    for one, other in zip(*(m.rank(histories(data), 10)[0].items_BK for m in (before, after)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("block", ["sasrec", "ligr"])
def test_int8_dense_layers_where_they_pay(
    data: Dataset, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense_pays(monkeypatch, True)
    before = model(data, block)
    after, record = STEPS["int8-dense"]().apply(before, work(data))
    assert record.applied
    exact, coded = (m.source.engine.encode(histories(data)) for m in (before, after))
    assert 0 < np.abs(coded - exact).max() < 0.1
    after.save(tmp_path / "b")
    stored = Recommender.load(tmp_path / "b")
    np.testing.assert_array_equal(stored.source.engine.encode(histories(data)), coded)
    again, record = STEPS["int8-dense"]().apply(after, work(data))
    assert again is after
    assert record.said == "small has no dense layers in float32"


def test_int8_dense_layers_are_dropped_where_they_do_not_pay(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dense_pays(monkeypatch, False)
    before = model(data)
    after, record = STEPS["int8-dense"]().apply(before, work(data))
    assert after is before
    assert not record.applied
    assert record.said.startswith("dropped, it does not pay on this machine: the dense layers take 10 us in float32")


def test_layers_are_really_timed(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "_SECONDS", 0.001)
    _, record = STEPS["int8-dense"]().apply(model(data), work(data))
    assert record.facts["layers"] == 4 * LAYERS
    assert record.facts["float32_us"] > 0
    assert record.facts["int8_us"] > 0


@pytest.mark.usefixtures("quick")
def test_compress_and_verify(data: Dataset, tmp_path: Path) -> None:
    before = model(data)
    before.save(tmp_path / "run" / "bundle")
    lean, report = compress_with_report(tmp_path / "run", data, out=tmp_path / "lean", metric="recall@5")
    assert [step.applied for step in report.steps] == [True, False]
    assert (report.before_id, report.after_id) == (before.id, lean.id)
    assert report.quality.identical
    assert report.quality.users == len(data.cases("test", "certify"))
    assert report.quality.paired.difference == 0
    assert report.quality.certificate.metric == "recall@5"
    for measured in (report.before, report.after):
        assert not measured.torch_imported
        assert 0 < measured.latency_p50_ms <= measured.latency_p99_ms
        assert measured.private <= measured.pss <= measured.rss
        assert measured.bundle_bytes > 0
    assert report.before.bytes_scanned is not None and report.after.bytes_scanned is not None
    assert report.before.bytes_scanned / report.after.bytes_scanned > 3
    assert [step.lossless for step in report.steps] == [True, False]
    text = str(report)
    assert text.endswith("what these users alone show")
    assert "bytes scanned per query" in text and "int8-dense: dropped" in text and "users would decide" in text

    stored = Recommender.load(tmp_path / "lean")
    assert isinstance(stored.source.index, CertifiedInt8Index)
    assert stored.lineage == {"compressed_from": before.id, "plan": ["int8-items", "int8-dense"]}
    assert stored.certificate is not None and stored.certificate["against"] == before.id
    found = verify(tmp_path / "lean", tmp_path / "run", data)
    assert found.certificate == report.quality.certificate
    assert found.id == lean.id
    assert len(verify(tmp_path / "lean").checks) == 2
    data.save(tmp_path / "data")
    assert verify(tmp_path / "lean", tmp_path / "run", tmp_path / "data") == found


@pytest.mark.usefixtures("quick")
def test_verify_refuses(data: Dataset, tmp_path: Path) -> None:
    before = model(data)
    before.save(tmp_path / "before")
    lean = compress(before, data)
    lean.save(tmp_path / "lean")
    with pytest.raises(InputError, match="both the bundle it was compared with and the data set"):
        verify(tmp_path / "lean", tmp_path / "before")
    with pytest.raises(InputError, match="holds no certificate"):
        verify(tmp_path / "before", tmp_path / "before", data)
    with pytest.raises(InputError, match="the certificate compares with bundle"):
        verify(tmp_path / "lean", tmp_path / "lean", data)
    other = prepare(_frame(), split="leave-one-out", repeats=True)
    with pytest.raises(InputError, match="issued on another data set"):
        verify(tmp_path / "lean", tmp_path / "before", other)
    assert lean.certificate is not None
    boasting = {**lean.certificate, "loss": {**lean.certificate["loss"], "upper": 0.0}}
    lean.certificate = boasting
    lean.save(tmp_path / "lean")
    with pytest.raises(PromiseError, match="the certificate does not hold"):
        verify(tmp_path / "lean", tmp_path / "before", data)
    lean.source.index.levels_N = np.zeros(len(data.items), np.uint8)
    lean.save(tmp_path / "lean")
    with pytest.raises(PromiseError, match="the bound of item row"):
        verify(tmp_path / "lean")
    with open(tmp_path / "lean" / "source-index.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError):
        verify(tmp_path / "lean")


def _frame() -> Any:
    import polars as pl

    users = np.repeat(np.arange(30), 5)
    return pl.DataFrame({"user_id": users, "item_id": np.arange(150) % 11, "timestamp": np.arange(150.0)})


def test_what_cannot_be_compressed(data: Dataset, tmp_path: Path) -> None:
    before = model(data)
    with pytest.raises(ConfigError, match="unknown plan 'int9' \\(did you mean 'int8'"):
        compress(before, data, plan="int9")
    with pytest.raises(ConfigError, match="unknown compression step 'int8-item'"):
        compress(before, data, plan=Plan(steps=("int8-item",)))
    with pytest.raises(InputError, match="certify a per-user metric"):
        compress(before, data, metric="coverage@10")
    before.save(tmp_path / "run" / "bundle")
    with pytest.raises(InputError, match="is the bundle to compress"):
        compress(tmp_path / "run", data, out=tmp_path / "run" / "bundle")
    with pytest.raises(InputError, match="nothing in the plan makes small smaller or faster"):
        compress(before, data, plan=Plan(steps=()))


def test_plans_from_files(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('steps = ["int8-items"]')
    assert read_plan(tmp_path / "p.toml") == Plan(steps=("int8-items",))
    (tmp_path / "q.toml").write_text('step = ["int8-items"]')
    with pytest.raises(ConfigError, match="unknown key 'step'"):
        read_plan(tmp_path / "q.toml")


def test_another_source_keeps_everything_else(data: Dataset) -> None:
    before = model(data)
    before.card = {"a": 1}
    after = with_source(before, before.source)
    assert after is not before
    assert {**vars(after)} == {**vars(before)}


def test_a_process_that_fails_is_one_sentence(tmp_path: Path, data: Dataset) -> None:
    with pytest.raises(MachineError, match=r"in a fresh process failed: .*does not exist"):
        measure(tmp_path / "nothing", histories(data))


class _Rounded(Step["_RoundedConfig"]):
    name = "rounded"
    stage = "items"

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        return model, StepRecord(step=self.name, applied=False, said=f"{self.config.bits} bits")


class _RoundedConfig(StepConfig, frozen=True, kw_only=True):
    bits: int = 8


_Rounded.Config = _RoundedConfig


def test_steps_take_settings_from_a_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(STEPS.entries, "rounded", Entry(f"{__name__}:_Rounded", "rounded values"))
    file = tmp_path / "p.toml"
    file.write_text('steps = ["int8-items", {step = "rounded", bits = 4}]')
    steps = read_plan(file).build()
    assert [one.name for one in steps] == ["int8-items", "rounded"]
    assert [one.entry() for one in steps] == ["int8-items", {"step": "rounded", "bits": 4}]
    assert make_step("rounded").entry() == "rounded"
    file.write_text('steps = [{step = "rounded", bit = 4}]')
    with pytest.raises(ConfigError, match=r"p\.toml, step 1 \(rounded\): unknown key 'bit' \(did you mean 'bits'\?\)"):
        read_plan(file)
    file.write_text("steps = [{bits = 4}]")
    with pytest.raises(ConfigError, match="does not say its step"):
        read_plan(file)


@pytest.mark.parametrize("name", list(STEPS))
def test_every_step_says_what_it_is_for(name: str) -> None:
    step = STEPS[name]
    assert step.name == name
    assert step.stage in STAGES
    assert set(step.Config.space) <= set(step.Config.__struct_fields__)
