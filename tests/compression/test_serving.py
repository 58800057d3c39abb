"""The step `serving`: recommended in the bundle, taken when it is measured, and the load that shows what it buys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from leanrec.compression.base import make_step
from leanrec.compression.measure import _Asked, measure, time_answers
from leanrec.compression.optimise import SearchOptions
from leanrec.compression.space import PlanSpace
from leanrec.core.errors import ConfigError, MachineError
from leanrec.runtime.answering import Answering
from leanrec.runtime.recommender import Recommender
from tests.compression.contract import StepContract
from tests.compression.toys import popular, transformer, work


class TestBatches(StepContract):
    entry: ClassVar[Any] = {"step": "serving", "max_batch": 16, "threads": 1}
    encoders = False


class TestKept(StepContract):
    entry: ClassVar[Any] = {"step": "serving", "kept_answers": 100, "pinned": True}
    encoders = False


def test_the_bundle_recommends_it(tmp_path: Path) -> None:
    after, record = make_step({"step": "serving", "max_batch": 16}).apply(popular(), work())
    assert record.lossless and record.facts == {"max_batch": 16, "threads": 0, "pinned": False, "kept_answers": 0}
    assert after.id != popular().id
    after.save(tmp_path / "b")
    assert Recommender.load(tmp_path / "b").answering == Answering(max_batch=16)
    back, record = make_step("serving").apply(after, work())
    assert record.applied and back.answering == Answering()


def test_what_a_server_does_anyway_is_not_a_step() -> None:
    model = popular()
    same, record = make_step("serving").apply(model, work())
    assert same is model and not record.applied and "already" in record.said


def test_other_steps_leave_it() -> None:
    told, _ = make_step({"step": "serving", "pinned": True}).apply(transformer(), work())
    after, record = make_step({"step": "items", "kind": "int8"}).apply(told, work())
    assert record.applied and after.answering == Answering(pinned=True)


def test_the_optimiser_may_try_it() -> None:
    plans = [plan.steps[0] for plan in PlanSpace.variants("serving")]
    assert {"step": "serving", "pinned": True} in plans and {"step": "serving", "kept_answers": 10_000} in plans
    assert list(PlanSpace.of(["serving", "engine"]).stages) == ["engine", "serving"]


@pytest.mark.parametrize(("again", "kept", "found"), [(0.0, 1000, 0.0), (0.5, 1000, 0.5), (0.5, 0, None)])
def test_kept_answers_are_worth_what_the_load_says(again: float, kept: int, found: float | None) -> None:
    """Histories come round several times here, which alone must not look like users who ask again."""
    few = work().histories.slice(0, 100)
    model, _ = make_step({"step": "serving", "kept_answers": kept, "max_batch": 32}).apply(popular(), work())
    for concurrency in (1, 3):
        times = time_answers(model, few, 10, 0.5, concurrency, again)
        assert len(times.latencies) > len(few)
        if found is None:
            assert model.kept is None
        else:
            assert model.kept is not None
            share = model.kept.found / (model.kept.found + model.kept.missed)
            # a history that several users have is found as well, and one from before the round is not
            assert found - 0.25 <= share <= found + 0.25


def test_which_questions_come_again() -> None:
    numbers = _Asked(popular(), work().histories, 0.3, 20_000).numbers
    newest = np.maximum.accumulate(numbers)
    again = np.append(False, newest[1:] == newest[:-1])
    assert again.mean() == pytest.approx(0.3, abs=0.02)
    assert (newest - numbers).max() < 1000
    np.testing.assert_array_equal(_Asked(popular(), work().histories, 0.0, 50).numbers, np.arange(50))


def test_a_bundle_is_measured_as_it_recommends(tmp_path: Path) -> None:
    model, _ = make_step({"step": "serving", "kept_answers": 1000, "pinned": True}).apply(transformer(), work())
    model.save(tmp_path / "b")
    found = measure(tmp_path / "b", work().histories, seconds=0.2, concurrency=4, again=0.9)
    assert found.served_per_second > 0 and found.latency_p99_ms > 0


def test_a_machine_that_is_too_busy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.compression.measure._LIMIT_SECONDS", 0.01)
    with pytest.raises(MachineError, match=r"took more than 0\.01 s: let other programs end"):
        measure(tmp_path / "b", work().histories)


def test_settings_that_cannot_be() -> None:
    for settings, said in (
        ({"max_batch": 0}, "max_batch lies from 1 to 4,096, not 0"),
        ({"threads": -1}, "threads lies from 0"),
        ({"kept_answers": 10**9}, "kept_answers lies from 0"),
        ({"batch": 4}, "unknown key 'batch'"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_step({"step": "serving", **settings})
    with pytest.raises(ConfigError, match="again is a share"):
        SearchOptions(again=1.0)
