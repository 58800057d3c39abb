"""What a search must not do: destroy an old one, measure a plan twice, claim too much, or forget time and looks."""

# ruff: noqa: F811  (fixtures)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from leanrec.compression import STEPS, journal, optimise, options
from leanrec.compression.base import Plan, Step, StepConfig, StepRecord, Work
from leanrec.compression.budget import Budget
from leanrec.compression.capacity.model import ServiceModel
from leanrec.compression.capacity.plan import Capacity
from leanrec.compression.capacity.queueing import Services
from leanrec.compression.journal import Journal
from leanrec.compression.ladder import Rung
from leanrec.compression.outcome import Optimised
from leanrec.compression.promise import alpha_of_look
from leanrec.compression.search import Seeker
from leanrec.compression.space import PlanSpace, canonical, plan_key
from leanrec.core.errors import ConfigError, InputError, PromiseError
from leanrec.core.registry import Entry
from leanrec.core.space import Choice, Dimension
from leanrec.data.dataset import Dataset
from leanrec.jobs.bench import Ladder
from leanrec.runtime.recommender import Recommender
from tests.compression.test_optimise import OPTIONS, Noisy, data, steady, trained  # noqa: F401

BUDGET = Budget(max_quality_loss=0.05)


def changed(**values: Any) -> optimise.SearchOptions:
    return msgspec.structs.replace(OPTIONS, **values)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Late(Step[StepConfig]):
    """Never applied; stands after all the others."""

    name = "late"
    stage = "serving"

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        return model, StepRecord(step=self.name, applied=False, said="dropped")


class _TwinConfig(StepConfig, frozen=True, kw_only=True):
    space: ClassVar[Mapping[str, Dimension]] = {"word": Choice((0, 1, 2))}
    word: int = 0


class Twin(Step[_TwinConfig]):
    """The same bundle, whatever it is told."""

    name = "twin"
    stage = "items"
    Config = _TwinConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        return Noisy(level=0.01).apply(model, work)


def test_an_error_leaves_an_old_search_alone(
    data: Dataset,
    trained: Recommender,
    tmp_path: Path,
    steady: list[str],
) -> None:
    out = tmp_path / "lean"
    optimise.optimise(trained, data, BUDGET, out=out, options=OPTIONS)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'int8-items'"):
        optimise.optimise(trained, data, BUDGET, out=out, options=changed(steps=("int8-item",)))
    assert files(tmp_path) == before
    with pytest.raises(ConfigError, match="unknown compression step"):
        optimise.optimise(trained, data, BUDGET, out=tmp_path / "new" / "lean", options=changed(steps=("x",)))
    for name, match in (("file", "is not a bundle"), ("file/lean", "is not a folder"), ("full", "is not a bundle")):
        (tmp_path / "full").mkdir(exist_ok=True)
        (tmp_path / "full" / "mine").touch()
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match=match):
            optimise.optimise(trained, data, BUDGET, out=tmp_path / name, options=OPTIONS)
    assert files(tmp_path) == {**before, "file": b"", "full/mine": b""}
    assert not (tmp_path / "new").exists() and not (tmp_path / "full.search").exists()


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"seconds": 0.0}, {"measure_seconds": -1.0}, {"sampler": "tpee"}, {"seed": -1}]
)
def test_options_are_checked_when_they_are_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        optimise.SearchOptions(**wrong)


def test_a_plan_is_the_steps_that_were_applied(
    data: Dataset,
    trained: Recommender,
    steady: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(STEPS.entries, "late", Entry(f"{__name__}:Late", ""))
    pays = optimise.single_steps

    def all_pay(*arguments: Any) -> list[Rung]:  # as it may be alone, and not on top of others
        return [msgspec.structs.replace(one, pays=True) for one in pays(*arguments)]

    monkeypatch.setattr(optimise, "single_steps", all_pay)
    search = Seeker.search
    searched: list[tuple[Any, Any]] = []

    def noted(self: Seeker, *arguments: Any, **settings: Any) -> list[Plan]:
        plans = search(self, *arguments, **settings)
        searched.extend((plan.steps, self.bench.probe(plan).kept) for plan in plans)
        return plans

    monkeypatch.setattr(Seeker, "search", noted)
    steps = ("noisy", "useless", "late")  # 28 plans, of which seven differ
    found = optimise.optimise(trained, data, Budget(max_quality_loss=0.5), options=changed(steps=steps, trials=27))
    assert [plan for plan, _ in searched] == [applied for _, applied in searched]
    assert {plan_key(Plan(steps=one.plan)) for one in found.rows} == {
        plan_key(Plan(steps=plan)) for plan, _ in searched
    }
    assert len(steady) == len(set(steady)) == len(found.rows)


def test_a_bundle_is_measured_once_and_shown_once(
    data: Dataset,
    trained: Recommender,
    steady: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(STEPS.entries, "twin", Entry(f"{__name__}:Twin", ""))
    found = optimise.optimise(trained, data, BUDGET, options=changed(steps=("twin",)))
    assert [one.plan for one in found.rows] == [(), ("twin",)]
    assert len(steady) == 2


def test_settings_that_mean_nothing_make_no_other_plan() -> None:
    def key(**settings: Any) -> str:
        return plan_key(Plan(steps=({"step": "items", **settings},)))

    assert key(kind="int8", code_bytes=8, targets=0.3) == key(kind="int8")
    assert key(kind="bfloat16", asked=0.5) == key(kind="bfloat16")
    assert key(kind="int4", asked=0.5) != key(kind="int4")
    assert key(kind="product", code_bytes=8) != key(kind="product") != key(kind="product", targets=0.3)
    assert all("code_bytes" not in str(plan) for plan in PlanSpace.variants("items"))
    asked: list[str] = []

    def choose(name: str, dimension: Any) -> Any:
        asked.append(name)
        return {"items": "items", "items.kind": "bfloat16"}.get(name, 0.25)

    assert PlanSpace.of(["items"]).plan(choose) == canonical([{"step": "items", "kind": "bfloat16"}])
    assert asked == ["items", "items.kind"]


def test_a_busy_machine_is_said(
    data: Dataset,
    trained: Recommender,
    tmp_path: Path,
    steady: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calm = optimise.optimise(trained, data, BUDGET, options=OPTIONS)
    assert "busy" not in str(calm)
    measured = calm.singles[0].measured
    assert measured is not None
    loud = msgspec.structs.replace(calm.singles[0], measured=msgspec.structs.replace(measured, load=8.0, cores=2))
    noisy: Optimised = msgspec.structs.replace(calm, rows=[*calm.rows, loud])
    assert noisy.doubts and "4.0 for each core" in str(noisy)
    ladder = Ladder(metric="ndcg@10", price=calm.price, singles=[loud], ladder=[loud], known=True)
    assert "4.0 for each core" in str(ladder)
    capacity = Capacity(
        model=ServiceModel(call=1e-6, answer=1e-6, token=0, row=0, answer_row=0), rows=9, tokens=1.0, cores=2, load=8.0,
        served=Services(warm=[1e-3] * 100, dispersion=1.0), together={1: 1000.0}, queues={}, points=[],
    )  # fmt: skip
    assert "4.0 for each core" in str(capacity)


class Clock:
    """Time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Every answer that is found out takes a second."""
    clock, note = Clock(), Journal.note
    monkeypatch.setattr(journal, "time", clock)

    def slow(self: Journal, question: Mapping[str, Any], answer: Any) -> None:
        clock.now += 1
        note(self, question, answer)

    monkeypatch.setattr(Journal, "note", slow)
    return clock


def test_too_little_time_is_said(
    data: Dataset,
    trained: Recommender,
    steady: list[str],
    clock: Clock,
) -> None:
    found = optimise.optimise(trained, data, BUDGET, options=changed(seconds=2.0))
    assert found.chosen is not None and found.chosen.plan == ()
    assert found.sentence.startswith("nothing was won: the bundle as it was keeps")
    assert "no plan could be measured" in found.sentence
    assert "the time ran out when 0 of 3 steps had been tried alone" in found.sentence
    assert "the time ran out before any plan was searched" in found.sentence
    with pytest.raises(PromiseError, match="the time ran out before any plan was searched"):
        optimise.optimise(trained, data, Budget(memory=1 << 20), options=changed(seconds=2.0))


def test_where_nothing_pays_nothing_was_won(data: Dataset, trained: Recommender, steady: list[str]) -> None:
    found = optimise.optimise(trained, data, BUDGET, options=changed(steps=("useless",)))
    assert found.sentence.startswith("nothing was won") and "time ran out" not in found.sentence


def test_a_search_that_goes_on_has_what_was_left_of_its_time(
    data: Dataset, trained: Recommender, tmp_path: Path, steady: list[str], clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    told = changed(seconds=40.0, learn_seconds=1.0, trials=100)
    whole = optimise.optimise(trained, data, BUDGET, out=tmp_path / "whole", options=told)
    assert "the time ran out" in whole.sentence
    count, note = 0, Journal.note

    def interrupted(self: Journal, *arguments: Any) -> None:
        nonlocal count
        count += 1
        if count > 15:
            raise KeyboardInterrupt
        note(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "note", interrupted)
        with pytest.raises(KeyboardInterrupt):
            optimise.optimise(trained, data, BUDGET, out=tmp_path / "part", options=told)
    clock.now += 1e6  # nobody worked meanwhile
    found = optimise.optimise(trained, data, BUDGET, out=tmp_path / "part", options=told, resume=True)
    assert found.to_dict() == whole.to_dict()


def test_the_clock_is_that_of_one_search(tmp_path: Path, clock: Clock) -> None:
    with Journal(tmp_path / "j", {"a": 1}, {"budget": 1}) as one:
        one.ask({"b": 1}, int, lambda: 5)
        one.ask({"b": 2}, int, lambda: 6)
        assert one.spent() == 2
    for search, spent in (({"budget": 1}, 2), ({"budget": 2}, 0)):
        with Journal(tmp_path / "j", {"a": 1}, search) as other:
            assert other.spent() == 0 and other.ask({"b": 2}, int, lambda: 7) == 6
            assert other.spent() == spent


def test_what_differs_is_said_and_found_out_again(
    data: Dataset, trained: Recommender, tmp_path: Path, steady: list[str],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    optimise.optimise(trained, data, BUDGET, side=tmp_path / "s", options=OPTIONS)
    measured = len(steady)
    optimise.optimise(trained, data, BUDGET, side=tmp_path / "s", options=OPTIONS, resume=True)
    assert len(steady) == measured
    assert "found out again" not in capsys.readouterr().err
    monkeypatch.setattr(options, "cpu_model", lambda: "another")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "77")
    told = changed(measure_seconds=1.0)
    optimise.optimise(trained, data, BUDGET, side=tmp_path / "s", options=told, resume=True)
    assert len(steady) >= 2 * measured - 1
    said = next(line for line in capsys.readouterr().err.splitlines() if "found out again" in line)
    assert "measure_seconds was 2.0 and is 1.0" in said and "processor was" in said and "77" in said
    assert "version" not in said and "seed" not in said


def test_earlier_looks_at_certifying_users_count(
    data: Dataset,
    trained: Recommender,
    tmp_path: Path,
    steady: list[str],
) -> None:
    def shares(budget: Budget, resume: bool = True, **values: Any) -> list[float]:
        told = changed(**{"trials": 100, **values})  # all that there are
        found = optimise.optimise(trained, data, budget, side=tmp_path / "s", options=told, resume=resume)
        return [look.alpha for look in found.looks]

    small = Budget(max_quality_loss=0.05, memory=95 << 20)
    first, second = alpha_of_look(0.05, 0), alpha_of_look(0.05, 1)
    assert shares(BUDGET, resume=False) == [first]
    assert shares(BUDGET, trials=99) == [first]  # the same look is no new one
    assert shares(small) == [second]
    assert shares(BUDGET) == [first]
    assert shares(BUDGET, measure_seconds=1.0) == [first]  # nor is it elsewhere
    assert shares(small) == [second]
    assert shares(small, alpha=0.01)[0] < 0.01 * 0.25  # what was looked at too generously is looked at again
