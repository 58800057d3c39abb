"""The profile of a run: every stage is counted once, costs nothing when off, and the trace opens in a viewer."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from leanrec.models import MODELS
from leanrec.models.base import FitOptions
from leanrec.training import profile as module
from leanrec.training.profile import Profile, moved, profiling, stage, staged, waited
from tests.models.worlds import shop

_SETTINGS = {"dim": 16, "layers": 1, "heads": 2, "epochs": 3, "negatives": 16, "batch_tokens": 64}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    MODELS["sasrec"](**_SETTINGS).fit_with(shop(), FitOptions(run=folder, profile=True))
    return folder


def test_a_run_says_where_its_time_goes(run: Path) -> None:
    report = json.loads((run / "profile" / "profile.json").read_text())
    stages = {one["name"]: one for one in report["stages"]}
    assert {"wait for a batch", "look rows up", "forward", "loss", "backward", "update the network"} <= set(stages)
    assert {"update the table", "validation", "checkpoint"} <= set(stages)
    assert sum(one["share"] for one in stages.values()) == pytest.approx(1)
    assert stages["forward"]["calls"] == stages["backward"]["calls"] == report["steps"] > 3
    assert stages["checkpoint"]["bytes"] > 0
    assert report["step_flops"] > 0
    assert 0 < report["share_of_floor"] < 1


def test_the_trace_is_tagged_with_its_rank_and_holds_the_stages(run: Path) -> None:
    trace = json.loads((run / "profile" / "rank0.json").read_text())
    assert trace["distributedInfo"] == {"rank": 0, "world_size": 1}
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"forward", "loss", "backward", "aten::addmm"} <= names


def test_a_profiled_run_learns_the_same(run: Path, tmp_path: Path) -> None:
    plain = MODELS["sasrec"](**_SETTINGS).fit_with(shop(), FitOptions(run=tmp_path))
    assert json.loads((run / "bundle" / "manifest.json").read_text())["card"]["validation"] == plain.card["validation"]


def test_time_inside_an_inner_stage_is_not_the_outer_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    watched = Profile(tmp_path, rank=0, workers=1, dtype=torch.float32)
    with watched.stage("outer"):
        with watched.stage("inner"):
            watched.moved(7)
        with watched.stage("inner"):
            watched.moved(5)
    assert watched._seconds == {"outer": 3.0, "inner": 2.0}
    assert watched._calls == {"outer": 1, "inner": 2}
    assert watched._bytes == {"inner": 12}


def test_nothing_is_watched_when_it_is_off() -> None:
    @staged("work")
    def work(number: int) -> int:
        moved(1)
        return number + 1

    with profiling(None, rank=0, workers=1, precision="float32"), stage("outside"):
        assert [work(batch) for batch in waited([1, 2])] == [2, 3]
    assert module._active is None


def test_a_failure_ends_the_profile(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), profiling(tmp_path, rank=0, workers=1, precision="float32"):
        raise RuntimeError
    assert module._active is None


def test_every_worker_writes_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with profiling(tmp_path, rank=1, workers=2, precision="bfloat16"):
        for _ in waited(range(6)):
            with stage("forward"):
                time.sleep(0.001)
    assert json.loads((tmp_path / "profile1.json").read_text())["rank"] == 1
    assert json.loads((tmp_path / "rank1.json").read_text())["distributedInfo"]["world_size"] == 2
    assert capsys.readouterr().err == ""
