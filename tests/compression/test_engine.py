"""The step `engine`: another way to run the same arrays, measured, and kept in the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from leanrec.compression import engine as engines
from leanrec.compression.base import make_step
from leanrec.compression.space import PlanSpace
from leanrec.core.errors import ConfigError
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.ways import WAYS, DrivenEngine
from leanrec.runtime.ways.choose import Measured
from tests.compression.contract import StepContract, encoded
from tests.compression.toys import transformer, work


class TestFixed(StepContract):
    entry: ClassVar[Any] = {"step": "engine", "way": "fixed"}
    error = 3e-3


class TestPacked(StepContract):
    entry: ClassVar[Any] = {"step": "engine", "way": "packed", "together": 8}


def way_of(model: Recommender) -> dict[str, Any] | None:
    engine = model.source.engine  # type: ignore[attr-defined]
    return engine.way if isinstance(engine, DrivenEngine) else None


def test_the_bundle_says_how_it_runs(tmp_path: Path) -> None:
    after, record = make_step({"step": "engine", "way": "packed"}).apply(transformer(), work())
    assert record.facts["name"] == "packed" and not record.lossless
    assert {one["way"] for one in record.facts["measured"]} == {"plain", "packed"}
    after.save(tmp_path / "b")
    assert way_of(Recommender.load(tmp_path / "b")) == {"name": "packed", "threads": 1}


@pytest.mark.parametrize(("packed", "pays"), [(5e-6, True), (9.5e-6, False)])
def test_only_what_is_a_tenth_faster_is_taken(packed: float, pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(engine: Any, loads: Any, **_: Any) -> Any:
        table = [Measured("plain", 1, dict.fromkeys(loads, 1e-5)), Measured("packed", 1, dict.fromkeys(loads, packed))]
        return type("Found", (), {"table": table, "best": table[1]})

    monkeypatch.setattr(engines, "choose", measured)
    model = transformer()
    after, record = make_step("engine").apply(model, work())
    assert record.applied is pays and (after is model) is not pays
    assert way_of(after) == ({"name": "packed", "threads": 1} if pays else None)
    assert ("pays on this machine" in record.said) is not pays
    assert len(record.facts["measured"]) == 2


def test_a_way_that_changes_too_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = lambda _, some_BD, other_BD: 1.0 if (some_BD == other_BD).all() else 0.5  # noqa: E731
    monkeypatch.setattr("leanrec.runtime.ways.choose.overlap", alike)
    model = transformer()
    same, record = make_step({"step": "engine", "way": "fixed"}).apply(model, work())
    assert same is model and not record.applied and "than it may" in record.said
    after, record = make_step({"step": "engine", "way": "fixed", "overlap": 0.4}).apply(model, work())
    assert record.applied and after is not model


def test_later_steps_keep_the_way() -> None:
    driven, _ = make_step({"step": "engine", "way": "packed"}).apply(transformer(), work())
    for entry in ({"step": "items", "kind": "int8"}, {"step": "quantise", "precision": "bfloat16", "pays": "bytes"}):
        after, record = make_step(entry).apply(driven, work())
        assert record.applied, record.said
        assert np.isfinite(encoded(after)).all()
        assert way_of(after) == {"name": "packed", "threads": 1}
    same, record = make_step({"step": "engine"}).apply(driven, work())
    assert same is driven and "already" in record.said


def test_the_optimiser_may_try_each_way() -> None:
    plans = [plan.steps[0] for plan in PlanSpace.variants("engine")]
    assert {"step": "engine", "way": "fixed"} in plans and {"step": "engine", "threads": 0} in plans
    for name in ("onnxruntime", "openvino"):
        pytest.importorskip(name)
    assert {name for name in WAYS if WAYS[name].serves} == set(engines.SERVING)


def test_settings_that_cannot_be() -> None:
    for entry, said in (
        ({"way": "torch"}, "way is one of"),
        ({"threads": -1}, "at least 0"),
        ({"overlap": 2}, "0 to 1"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_step({"step": "engine", **entry})
