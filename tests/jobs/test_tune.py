"""A search: what it tries, what it leaves behind, and that it survives failures, interruptions and dead processes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from leanrec.core.config import load_toml
from leanrec.core.errors import ConfigError, InputError, MachineError
from leanrec.core.registry import Entry
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.jobs import spread, trials
from leanrec.jobs.train import TrainJob, train
from leanrec.jobs.trials import TuneJob, counts, open_study, run_trial
from leanrec.jobs.tune import tune
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender
from tests.tiny import tiny_log

from .fakes import EPOCHS, Fake

pytest.importorskip("optuna")

_ALL_SET = {**dict.fromkeys(MODELS["item-knn"].Config.space, 1), "similarity": "cosine", "normalised": True}
"""A value for everything that can be searched of item-knn."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "tiny"
    prepare(tiny_log(), name="tiny").save(folder)
    return str(folder)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setitem(MODELS.entries, "fake", Entry("tests.jobs.fakes:Fake", "nothing"))
    Fake.epochs_run.clear()
    return Fake


def job(data: str, out: Path, model: str = "item-knn", **more: Any) -> TuneJob:
    return TuneJob(**{"model": model, "data": data, "out": str(out), "trials": 4, **more})


def table(out: Path) -> list[dict[str, Any]]:
    return pl.read_csv(out / "trials.csv").drop("seconds").to_dicts()


class TestSearch:
    def test_the_best_settings_are_trained_into_a_run(self, data: str, tmp_path: Path) -> None:
        found = tune(job(data, tmp_path / "out"))
        rows = table(tmp_path / "out")
        assert (found.trials, found.failed, len(rows)) == (4, 0, 4)
        assert found.values["ndcg@10"] == max(row["ndcg@10"] for row in rows)
        settings = load_toml(tmp_path / "out" / "best.toml")
        assert settings == found.settings
        again = train(TrainJob(model="item-knn", data=data, out=str(tmp_path / "again"), settings=settings))
        assert Recommender.load(tmp_path / "out" / "best").id == again.id

    def test_what_is_set_is_not_searched_and_what_is_asked_for_is(self, data: str, tmp_path: Path) -> None:
        found = tune(job(data, tmp_path, settings={"half_life": 5.0}, search=("window=3,7",)))
        rows = table(tmp_path)
        assert "half_life" not in rows[0]
        assert {row["window"] for row in rows} <= {3, 7}
        assert found.settings["half_life"] == 5.0

    def test_only_users_that_tune_are_asked(self, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked, real = [], Dataset.cases

        def cases(self: Dataset, on: Any, users: Any = "all", **more: Any) -> Any:
            asked.append((on, users))
            return real(self, on, users, **more)

        monkeypatch.setattr(Dataset, "cases", cases)
        tune(job(data, tmp_path))
        assert set(asked) == {("valid", "tune")}

    @pytest.mark.parametrize("sampler", ["tpe", "evolutionary", "random"])
    def test_the_seed_decides(self, data: str, tmp_path: Path, sampler: Any) -> None:
        for out, seed in (("a", 1), ("b", 1), ("c", 2)):
            tune(job(data, tmp_path / out, "popular-recent", sampler=sampler, seed=seed, trials=12))
        assert table(tmp_path / "a") == table(tmp_path / "b")
        assert table(tmp_path / "a") != table(tmp_path / "c")

    def test_the_front_is_what_no_other_trial_beats(self, data: str, tmp_path: Path) -> None:
        found = tune(job(data, tmp_path, trials=8, objectives=("ndcg@10", "bytes")))
        points = [(row["ndcg@10"], -row["bytes"]) for row in table(tmp_path)]
        expected = {p for p in points if not any(o != p and o[0] >= p[0] and o[1] >= p[1] for o in points)}
        assert {(row["ndcg@10"], -row["bytes"]) for row in found.pareto} == expected
        assert [row["ndcg@10"] for row in found.pareto] == sorted((p[0] for p in expected), reverse=True)
        for row in found.pareto:
            assert load_toml(tmp_path / "pareto" / f"trial-{row['trial']}.toml")["neighbours"] == row["neighbours"]

    def test_poor_trials_are_stopped(self, data: str, tmp_path: Path, fake: type[Fake]) -> None:
        found = tune(job(data, tmp_path, "fake", trials=15))
        levels = {row["trial"]: (row["level"], row["state"]) for row in table(tmp_path)}
        assert found.pruned > 0
        pruned = [level for level, state in levels.values() if state == "pruned"]
        assert max(pruned) < max(level for level, _ in levels.values())
        assert sorted(set(fake.epochs_run)) == [2, EPOCHS]


class TestFailures:
    def test_a_failed_trial_is_recorded_and_the_search_goes_on(
        self, data: str, tmp_path: Path, fake: type[Fake]
    ) -> None:
        found = tune(job(data, tmp_path, "fake", trials=8, settings={"fails_below": 0.4}))
        errors = [row["error"] for row in table(tmp_path)]
        assert found.failed == errors.count("too low") > 0
        assert found.settings["level"] >= 0.4

    @pytest.mark.parametrize(("lacks", "kind"), [(False, InputError), (True, MachineError)])
    def test_all_failing_is_one_clear_error(
        self, data: str, tmp_path: Path, fake: type[Fake], lacks: bool, kind: type[Exception]
    ) -> None:
        with pytest.raises(kind, match=r"every trial of fake failed \(4 in all, see .*trials\.csv\), the first with"):
            tune(job(data, tmp_path, "fake", settings={"fails_below": 2.0, "lacks": lacks}))

    def test_no_time_for_a_single_trial(self, data: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="--time"):
            tune(job(data, tmp_path, time_limit=1e-9))

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"model": "item-nn"}, "item-knn"),
            ({"model": "popular"}, "no settings"),
            ({"objectives": ("ndgc@10",)}, "ndcg"),
            ({"objectives": ("seconds", "ndcg@10")}, "first objective"),
            ({"search": ("neighbors=1..4",)}, "neighbours"),
            ({"search": ("window=4..1",)}, r"lr=1e-4\.\.1e-2"),
            ({"settings": {"shrink": 1}}, "shrinkage"),
            ({"settings": _ALL_SET}, "leave a --set out"),
            ({"trials": 0}, "trials"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(
        self, data: str, tmp_path: Path, wrong: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            tune(job(data, tmp_path / "out", **wrong))
        assert not (tmp_path / "out").exists()


class TestResume:
    def test_cut_short_and_resumed_is_as_if_never_cut(
        self, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tune(job(data, tmp_path / "whole", trials=13))
        real, calls = trials._try, itertools.count()

        def interrupted(*arguments: Any) -> Any:
            if next(calls) == 7:
                raise KeyboardInterrupt
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(trials, "_try", interrupted)
            with pytest.raises(KeyboardInterrupt):
                tune(job(data, tmp_path / "cut", trials=13))
        assert len(table(tmp_path / "cut")) == 7
        journal = tmp_path / "cut" / "journal.log"
        journal.write_bytes(journal.read_bytes() + b'{"op_code":4,"work')
        found = tune(job(data, tmp_path / "cut", trials=13, resume=True))
        assert found.trials == 13
        whole, cut = ([{**row, "trial": 0} for row in table(tmp_path / out)] for out in ("whole", "cut"))
        assert whole == cut
        assert Recommender.load(tmp_path / "whole" / "best").id == Recommender.load(tmp_path / "cut" / "best").id

    def test_more_trials_can_be_asked_for(self, data: str, tmp_path: Path) -> None:
        tune(job(data, tmp_path, trials=2))
        assert tune(job(data, tmp_path, trials=5, resume=True)).trials == 5

    def test_another_search_is_refused(self, data: str, tmp_path: Path) -> None:
        tune(job(data, tmp_path, trials=1))
        with pytest.raises(InputError, match="started with seed 0, not 1"):
            tune(job(data, tmp_path, seed=1, resume=True))
        with pytest.raises(InputError, match="no search to resume"):
            tune(job(data, tmp_path / "elsewhere", resume=True))

    def test_a_foreign_folder_is_left_alone(self, data: str, tmp_path: Path) -> None:
        (tmp_path / "precious.txt").write_text("x")
        with pytest.raises(InputError, match="not the folder of a search"):
            tune(job(data, tmp_path))
        tune(job(data, tmp_path / "out", trials=2))
        assert tune(job(data, tmp_path / "out", trials=1)).trials == 1


class TestSideBySide:
    def test_processes_share_the_journal(self, data: str, tmp_path: Path) -> None:
        found = tune(job(data, tmp_path, workers=2, trials=5))
        assert (found.trials, found.failed) == (5, 0)
        assert sorted(row["trial"] for row in table(tmp_path)) == list(range(5))

    def test_a_dead_process_costs_its_trial(self, data: str, tmp_path: Path) -> None:
        lost = job(data, tmp_path, workers=2)
        run_trial(lost, 0)
        open_study(lost, 1).ask()
        assert spread._record_lost(lost) == 1
        assert [counts(trial) for trial in open_study(lost).trials] == [True, True]
        assert "memory" in open_study(lost).trials[1].user_attrs["error"]
        with pytest.raises(MachineError, match="fewer --workers"):
            spread._record_lost(lost)

    def test_on_ray(self, data: str, tmp_path: Path) -> None:
        pytest.importorskip("ray")
        found = tune(job(data, tmp_path, cluster="local", trials=3))
        assert (found.trials, found.failed) == (3, 0)
