"""A search by budget on a small transformer: what is returned, what is refused, and going on where it stopped."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import msgspec
import numpy as np
import polars as pl
import pytest

from leanrec.cli.main import run
from leanrec.compression import STEPS, optimise, workbench
from leanrec.compression.base import Plan, Step, StepConfig, StepRecord, Work, with_source
from leanrec.compression.budget import Budget
from leanrec.compression.figures import Figures, front
from leanrec.compression.journal import Journal
from leanrec.compression.ladder import _by_breadth
from leanrec.compression.measure import Measurement, Times, measure, robust_p99
from leanrec.compression.space import PlanSpace
from leanrec.compression.verify import verify
from leanrec.compression.workbench import Turns, Workbench
from leanrec.core.errors import InputError, PromiseError
from leanrec.core.registry import Entry
from leanrec.core.space import Choice, Dimension
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.index.exact import ExactIndex
from leanrec.models import MODELS
from leanrec.runtime.answering import Answering
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

OPTIONS = optimise.SearchOptions(trials=12, steps=("noisy", "useless", "int8-items"), sampler="particle-swarm")


class _NoisyConfig(StepConfig, frozen=True, kw_only=True):
    space: ClassVar[Mapping[str, Dimension]] = {"level": Choice((0.001, 0.01, 3.0)), "seed": Choice((0, 1))}
    level: float = 0.001
    seed: int = 0


class Noisy(Step[_NoisyConfig]):
    """Item vectors with noise: a little of it changes no answer, much of it all of them."""

    name = "noisy"
    stage = "items"
    Config = _NoisyConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        source = model.source
        assert isinstance(source, EmbeddingSource)
        noise = np.random.default_rng(self.config.seed).standard_normal(source.index.items_ND.shape, dtype=np.float32)
        table = source.index.items_ND + np.float32(self.config.level) * noise
        lean = with_source(model, EmbeddingSource(source.name, source.engine, ExactIndex.build(table)))
        facts = {"sensitivity": [{"layer": f"layer.{n}", "precision": "int8", "loss": 0.1 * n} for n in range(2)]}
        return lean, StepRecord(step=self.name, applied=True, said=f"noise of {self.config.level}", facts=facts)


class Useless(Step[StepConfig]):
    name = "useless"
    stage = "dense"

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        return model, StepRecord(step=self.name, applied=False, said="dropped, it does not pay on this machine")


class Helper(Step[StepConfig]):
    """Makes answers quick where there is noise, and slow where there is none."""

    name = "helper"
    stage = "serving"

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        lean = with_source(model, model.source)
        lean.answering = Answering(max_batch=7)
        return lean, StepRecord(step=self.name, applied=True, lossless=True, said="helps")


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(1200), 8)
    walk = (users * 7 + rng.integers(0, 9, len(users))) % 60
    frame = pl.DataFrame({"user_id": users, "item_id": walk, "timestamp": np.arange(len(users)) + 1.6e9})
    return prepare(frame, split="leave-one-out", repeats=True)


@pytest.fixture(scope="module")
def trained(data: Dataset) -> Recommender:
    return MODELS["als"](factors=8, iterations=4).fit(data)


@pytest.fixture
def steady(trained: Recommender, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine whose times follow from the bundle alone: noise makes answers quick, int8 makes processes small."""
    asked: list[str] = []
    for name, step in (("noisy", "Noisy"), ("useless", "Useless"), ("helper", "Helper")):
        monkeypatch.setitem(STEPS.entries, name, Entry(f"{__name__}:{step}", ""))

    def quick(model: Recommender) -> float:
        index = model.source.index  # type: ignore[attr-defined]
        noise = float(np.abs(index.items_ND - trained.source.index.items_ND).mean())  # type: ignore[attr-defined]
        helped = 1.0 if model.answering is None else 0.5 if noise else 2.0
        return 1e-3 * helped * (0.8 / (1 + noise) if noise else 1.0) * (1.2 if index.name != "exact" else 1.0)

    def fake(bundle: Path, histories: Any, k: int, *, seconds: float, concurrency: int, again: float) -> Measurement:
        model = Recommender.load(bundle)
        asked.append(model.id)
        took = quick(model)
        small = 0 if model.source.index.name == "exact" else 10 << 20  # type: ignore[attr-defined]
        return Measurement(
            latency_p50_ms=1e3 * took, latency_p99_ms=2e3 * took, answers_per_second=1 / took, first_answer_seconds=1,
            bytes_scanned=1, bundle_bytes=100_000, rss=100 << 20, pss=(100 << 20) - small, private=1, load=0, cores=2,
            torch_imported=False, concurrency=concurrency, served_per_second=1 / took, core_seconds=took,
        )  # fmt: skip

    monkeypatch.setattr(workbench, "measure", fake)
    monkeypatch.setattr(
        workbench,
        "time_answers",
        lambda model, *_: Times(latencies=[quick(model)], wall=quick(model), cpu=quick(model)),
    )

    def same(bench: Workbench, before: Plan, after: Plan) -> Turns:
        return Turns(before=bench.measured(before), after=bench.measured(after))

    monkeypatch.setattr(Workbench, "turns", same)
    return asked


def test_the_cheapest_plan_that_keeps_the_promise(
    data: Dataset, trained: Recommender, tmp_path: Path, steady: list[str]
) -> None:
    before = trained
    before.save(tmp_path / "run" / "bundle")
    budget = Budget(max_quality_loss=0.05, p99_ms=10)
    found = optimise.optimise(tmp_path / "run", data, budget, out=tmp_path / "lean", options=OPTIONS)
    # much noise would be cheapest, and loses nearly everything; a little is cheaper than none, and loses nothing
    assert found.chosen is not None
    assert found.chosen.plan[0] == {"step": "noisy", "level": 0.01} or found.chosen.plan[0] == "noisy"
    assert all(one.figures is not None for one in found.rows)
    assert found.looks[-1].kept == "certificate"
    assert [one.said for one in found.singles if not one.pays and one.figures is None] == [
        "dropped, it does not pay on this machine"
    ]
    assert found.ladder[0].plan == () and found.ladder[-1].plan == found.chosen.plan
    assert "dropped: useless" in str(found)
    lean = Recommender.load(tmp_path / "lean")
    assert lean.id == found.recommender.id
    assert lean.certificate is not None
    assert lean.certificate["promise"]["kept_by"] == "certificate"
    assert lean.certificate["loss"]["alpha"] == found.looks[-1].alpha < 0.05
    assert verify(tmp_path / "lean", tmp_path / "run", data).certificate == found.looks[-1].quality.certificate  # type: ignore[union-attr]
    lean.certificate = {**lean.certificate, "promise": {**lean.certificate["promise"], "max_quality_loss": 1e-4}}
    lean.save(tmp_path / "boasting")
    with pytest.raises(PromiseError, match=r"promises a loss of ndcg@10 of at most 0\.01%, kept by certificate, but"):
        verify(tmp_path / "boasting", tmp_path / "run", data)
    folder = tmp_path / "lean.search"
    assert {path.name for path in folder.iterdir()} == {
        "journal.jsonl", "points.csv", "front.csv", "outcome.json", "report.html",
    }  # fmt: skip
    with open(folder / "front.csv") as file:
        fronted = list(csv.DictReader(file))
    assert [row["plan"] for row in fronted] == [one.name for one in found.front]
    page = (folder / "report.html").read_text()
    ElementTree.fromstring(page.partition("\n")[2])
    for text in (
        "Pareto front",
        found.chosen.name,
        "Ladder of the chosen plan",
        "layer.1",
        "Each step alone",
        "certificate",
    ):
        assert text in page
    assert msgspec.json.decode((folder / "outcome.json").read_bytes())["chosen"]["plan"] == list(found.chosen.plan)


def test_what_does_not_pay_alone_may_pay_with_others(data: Dataset, trained: Recommender, steady: list[str]) -> None:
    options = optimise.SearchOptions(trials=6, steps=("noisy", "useless", "helper"))
    found = optimise.optimise(trained, data, Budget(max_quality_loss=0.05), options=options)
    assert {one.name for one in found.singles if not one.pays} == {"useless", "helper"}
    assert found.chosen is not None and found.chosen.plan[1:] == ("helper",)
    assert found.ladder[-1].plan == found.chosen.plan and found.ladder[-1].pays
    assert "dropped: useless" in str(found) and "dropped: helper" not in str(found)


def test_what_is_proven_needs_no_certificate(data: Dataset, trained: Recommender, steady: list[str]) -> None:
    budget = Budget(max_quality_loss=1e-6, memory=95 << 20)
    found = optimise.optimise(trained, data, budget, options=OPTIONS)
    assert found.chosen is not None
    assert found.chosen.plan == ("int8-items",)
    assert found.looks[-1].kept == "proof"
    assert "by proof" in str(found)


def test_budgets_that_cannot_be_kept_or_decided(
    data: Dataset, trained: Recommender, tmp_path: Path, steady: list[str]
) -> None:
    before = trained
    out = tmp_path / "lean"
    with pytest.raises(
        PromiseError, match=r"none of \d+ measured plans keeps the budget .* the nearest: .* memory 90 MiB"
    ):
        optimise.optimise(before, data, Budget(memory=1 << 20), out=out, options=OPTIONS)
    assert not out.exists()
    assert (tmp_path / "lean.search" / "report.html").exists()
    # quicker than the original allows, so that only noise comes into question, and far fewer users than 0.1 % needs
    quick = optimise.optimise(before, data, Budget(max_quality_loss=0.5), side=tmp_path / "s", options=OPTIONS)
    base, lean = quick.singles[0].figures, next(one.figures for one in quick.singles if one.plan == ("noisy",))
    assert base is not None and lean is not None
    budget = Budget(max_quality_loss=0.001, cost=(base.cost + lean.cost) / 2)
    with pytest.raises(PromiseError, match=r"users cannot decide it: .* about [\d,]+ users would decide"):
        optimise.optimise(before, data, budget, side=tmp_path / "s", resume=True, options=OPTIONS)


@pytest.mark.parametrize("stop_after", [1, 5, 16, 30])
def test_a_stopped_search_goes_on_to_the_same_end(
    data: Dataset,
    trained: Recommender,
    tmp_path: Path,
    steady: list[str],
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
) -> None:
    before, budget = trained, Budget(max_quality_loss=0.05)
    whole = optimise.optimise(before, data, budget, out=tmp_path / "whole", options=OPTIONS)
    measured = len(steady)
    count, ask = 0, Journal.ask

    def interrupted(self: Journal, *arguments: Any) -> Any:
        nonlocal count
        count += not self.knows(arguments[0])
        if count > stop_after:
            raise KeyboardInterrupt
        return ask(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            optimise.optimise(before, data, budget, out=tmp_path / "part", options=OPTIONS)
    assert not (tmp_path / "part").exists()
    with open(tmp_path / "part.search" / "journal.jsonl", "ab") as file:
        file.write(b'{"key": "half a li')
    found = optimise.optimise(before, data, budget, out=tmp_path / "part", options=OPTIONS, resume=True)
    assert found.to_dict() == whole.to_dict()
    assert len(steady) == 2 * measured  # nothing was measured twice
    assert Recommender.load(tmp_path / "part").id == Recommender.load(tmp_path / "whole").id


def test_another_budget_uses_what_is_known(
    data: Dataset, trained: Recommender, tmp_path: Path, steady: list[str]
) -> None:
    first = optimise.optimise(trained, data, Budget(max_quality_loss=0.05), side=tmp_path / "s", options=OPTIONS)
    measured = len(steady)
    other = optimise.optimise(
        trained, data, Budget(max_quality_loss=0.05, memory=95 << 20), side=tmp_path / "s", options=OPTIONS, resume=True
    )  # fmt: skip
    assert len(steady) <= measured + 2
    assert first.chosen is not None and other.chosen is not None
    assert "int8-items" not in first.chosen.plan and other.chosen.plan[-1] == "int8-items"


def test_what_takes_long_to_learn_is_tried_last(
    data: Dataset, trained: Recommender, steady: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Useless, "learns", True)
    found = optimise.optimise(trained, data, Budget(max_quality_loss=0.05), options=OPTIONS)
    assert [one.plan[0] for one in found.singles[1:]][-1] == "useless"


def test_where_a_search_may_write(data: Dataset, trained: Recommender, tmp_path: Path, steady: list[str]) -> None:
    before = trained
    with pytest.raises(InputError, match="holds no search to resume"):
        optimise.optimise(before, data, Budget(), out=tmp_path / "lean", resume=True, options=OPTIONS)
    (tmp_path / "lean.search").mkdir()
    (tmp_path / "lean.search" / "mine.txt").touch()
    with pytest.raises(InputError, match="is not the folder of a search"):
        optimise.optimise(before, data, Budget(), out=tmp_path / "lean", options=OPTIONS)
    with Journal(tmp_path / "j.jsonl", {}), pytest.raises(InputError, match="another search is at work"):
        Journal(tmp_path / "j.jsonl", {})


def test_plans_that_fail_do_not_end_the_search(
    data: Dataset, trained: Recommender, steady: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Noisy, model: Recommender, work: Work) -> Any:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(Noisy, "apply", fails)
    found = optimise.optimise(trained, data, Budget(), options=OPTIONS)
    assert found.chosen is not None
    assert next(one for one in found.singles if one.plan == ("noisy",)).said == "ZeroDivisionError: on purpose"


def test_the_front() -> None:
    def point(**values: float) -> Figures:
        return Figures(**{"loss": 0.0, "p50_ms": 1, "p99_ms": 1, "memory": 1, "size": 1, "cost": 1, **values})

    rows = [
        ("a", point()),
        ("b", point(cost=2)),
        ("c", point(cost=0.5, loss=0.1)),
        ("d", point()),
        ("e", point(p99_ms=0.5, cost=3)),
    ]
    assert front(rows) == ["c", "a", "e"]


def test_asking_at_once(data: Dataset, trained: Recommender, tmp_path: Path) -> None:
    before = trained
    before.save(tmp_path / "b")
    found = measure(tmp_path / "b", data.cases("test").histories, seconds=0.2, concurrency=4)
    assert found.concurrency == 4
    assert 0 < found.latency_p50_ms <= found.latency_p99_ms
    assert found.served_per_second > 0
    assert found.core_seconds > 0


def test_a_stall_counts_in_one_stretch() -> None:
    calm = [1.0] * 3000
    assert robust_p99([*calm[:-60], *[50.0] * 60]) == 1.0
    assert robust_p99([1.0] * 90 + [9.0] * 10) == pytest.approx(9.0, rel=0.2)


def test_the_command_line(
    data: Dataset, trained: Recommender, tmp_path: Path, steady: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    trained.save(tmp_path / "b")
    data.save(tmp_path / "data")
    compress = ["compress", str(tmp_path / "b"), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "lean")]
    searching = [*compress, "--steps", "noisy,int8-items", "--trials", "4"]
    assert run([*searching, "--max-quality-loss", "50%", "--memory", "95MiB", "--json"]) == 0
    said = msgspec.json.decode(capsys.readouterr().out.splitlines()[-1])
    assert said["chosen"]["plan"][-1] == "int8-items"
    assert run([*searching, "--memory", "1MB"]) == 4
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("leanrec: none of") and "the nearest" in error
    for wrong, words in (
        (["--p99", "5"], "is not understood"),
        (["--memory=-64MB"], "above 0"),
        (["--p99", "5ms", "--plan", "int8"], "give one of them"),
        (["--resume"], "belong to a search"),
        (["--p99", "5ms", "--sampler", "tpee"], "did you mean 'tpe'"),
        (["--p99", "5ms", "--steps", "int8-item"], "did you mean 'int8-items'"),
        (["--p99", "5ms", "--trials", "0"], "trials must be at least 1"),
        (["--p99", "5ms", "--again", "1"], "again is a share of the questions"),
        (["--p99", "5ms", "--price", str(tmp_path / "no.toml")], "does not exist"),
    ):
        assert run([*compress, *wrong]) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("steady")
def test_the_ladder_alone(
    data: Dataset, trained: Recommender, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.save(tmp_path / "b")
    data.save(tmp_path / "data")
    bench = ["bench", str(tmp_path / "b"), "--steps", "noisy,useless,int8-items", "--json"]
    assert run([*bench, "--data", str(tmp_path / "data")]) == 0
    found = msgspec.json.decode(capsys.readouterr().out.splitlines()[-1])
    assert [one["plan"] for one in found["singles"]] == [[], ["useless"], ["noisy"], ["int8-items"]]
    assert [one["pays"] for one in found["singles"]] == [True, False, True, True]
    assert [one["plan"] for one in found["ladder"]] == [[], ["noisy"]]  # int8-items is smaller there and dearer
    assert found["known"]
    assert run(bench) == 0
    captured = capsys.readouterr()
    assert not msgspec.json.decode(captured.out.splitlines()[-1])["known"]


def test_a_step_that_comes_out_otherwise_is_found_out_again(
    data: Dataset, trained: Recommender, tmp_path: Path, steady: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(max_quality_loss=0.05)
    first = optimise.optimise(trained, data, budget, out=tmp_path / "lean", options=OPTIONS)
    assert not (tmp_path / "lean.search" / "bundles").exists()
    apply = Noisy.apply

    def other(self: Noisy, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        return apply(Noisy(level=self.config.level, seed=self.config.seed + 7), model, work)

    monkeypatch.setattr(Noisy, "apply", other)
    again = optimise.optimise(trained, data, budget, out=tmp_path / "lean", options=OPTIONS, resume=True)
    assert again.recommender.id != first.recommender.id
    trained.save(tmp_path / "before")
    verify(tmp_path / "lean", tmp_path / "before", data)


def test_every_stage_has_its_turn_before_the_second_steps_of_any() -> None:
    space = PlanSpace.of(["quantise", "int8-dense", "items", "int8-items", "distil"])
    first = {names[0] for stage, names in space.stages.items() if stage != "student"}
    order = _by_breadth(space)
    assert set(order[: len(first)]) == first
    assert order[-1] == "distil"
    assert sorted(order) == sorted(space.steps)
