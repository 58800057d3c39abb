"""What training takes is foreseen, and what does not fit is refused before it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from leanrec.core import machine
from leanrec.core.errors import InputError, MachineError
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.jobs.foresee import ForeseeJob, foresee
from leanrec.models import MODELS
from leanrec.models.base import FitOptions
from leanrec.models.sequential import SequenceModel
from leanrec.nn.tables import TABLES
from leanrec.training import memory

from .worlds import shop

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("memory_child.py")
SEQUENTIAL = [
    name for name, entry in MODELS.entries.items() if entry.extra == "train" and issubclass(MODELS[name], SequenceModel)
]


def _wide(items: int, users: int, length: int) -> Dataset:
    """Every user walks on through a large catalogue."""
    events = np.arange(users * length)
    frame = {
        "user_id": events // length,
        "item_id": events * 7 % items,
        "timestamp": 1.6e9 + events % length,
    }
    return prepare(pl.DataFrame(frame), name="wide")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "wide"
    _wide(100_000, 2_200, 50).save(folder)
    return str(folder)


def _train(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(CHILD), *arguments]
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "2", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _is_close(found: dict[str, Any]) -> None:
    assert 0.9 * found["peak"] <= found["foreseen"] <= 1.25 * found["peak"], found


def test_the_peak_of_a_step_is_foreseen(wide: str, tmp_path: Path) -> None:
    settings = {"dim": 64, "layers": 4, "batch_tokens": 8192, "ema": 0}
    _is_close(_train("esasrec", json.dumps(settings), wide, str(tmp_path / "run"), "3"))


@pytest.mark.long
def test_the_peak_of_a_run_is_foreseen(wide: str, tmp_path: Path) -> None:
    """13 million parameters, most of them in the table; validation, checkpoints and bundle included."""
    _is_close(_train("sasrec", json.dumps({"epochs": 1, "dim": 128}), wide, str(tmp_path / "run")))


@pytest.mark.long
@pytest.mark.parametrize(("dim", "layers"), [(256, 13), (768, 14)])
def test_networks_of_ten_and_a_hundred_million_parameters_train(tmp_path: Path, dim: int, layers: int) -> None:
    data = _wide(2_000, 300, 60)
    data.save(tmp_path / "data")
    settings = {"dim": dim, "layers": layers, "heads": 4, "epochs": 1, "max_length": 50}
    model: Any = MODELS["sasrec"](**settings)
    count = sum(parameter.numel() for parameter in model.network(model.resolve(data)).parameters())
    assert 0.98 < count / {256: 10e6, 768: 100e6}[dim] < 1.05
    _is_close(_train("sasrec", json.dumps(settings), str(tmp_path / "data"), str(tmp_path / "run"), "4"))


@pytest.mark.parametrize("model", SEQUENTIAL)
def test_every_model_can_be_foreseen(model: str) -> None:
    small, large = (MODELS[model](dim=dim).memory(shop()).memory_bytes for dim in (16, 512))
    assert 0 < small < large


@pytest.mark.parametrize(
    "model", ["bpr-mf", *(pytest.param(name, marks=pytest.mark.long) for name in ("simplex", "lightgcn", "two-tower"))]
)
def test_the_peak_of_vectors_of_pairs_is_foreseen(model: str, wide: str, tmp_path: Path) -> None:
    _is_close(_train(model, json.dumps({"epochs": 1}), wide, str(tmp_path / "run")))


@pytest.mark.parametrize("model", ["bpr-mf", "simplex", "lightgcn", "ultragcn", "two-tower"])
def test_wider_vectors_need_more(model: str) -> None:
    small, large = (MODELS[model](dim=dim).memory(shop()).memory_bytes for dim in (16, 512))
    assert 0 < small < large


def test_a_hybrid_needs_what_its_parts_do() -> None:
    alone = MODELS["bpr-mf"]().memory(shop()).memory_bytes
    both = MODELS["hybrid"](sources=["bpr-mf", "item-knn"]).memory(shop())
    assert both.memory_bytes > alone
    assert {"the part bpr-mf", "the part item-knn"} <= {line.what for line in both.passing}
    with pytest.raises(InputError, match="content has no forecast of its memory"):
        MODELS["hybrid"](sources=["bpr-mf", "content"]).memory(shop())


@pytest.mark.parametrize("model", ["popular", "popular-recent", "item-knn", "user-knn", "ease", "slim", "mf", "als"])
def test_models_without_steps_can_be_foreseen(model: str, wide: str) -> None:
    """More data needs more, and `leanrec doctor` says so without training."""
    small = MODELS[model]().memory(shop()).memory_bytes
    found = foresee(ForeseeJob(model=model, data=wide))
    assert 0 < small < found.need.memory_bytes < found.memory


def test_what_cannot_be_foreseen_is_said() -> None:
    with pytest.raises(InputError, match="content has no forecast of its memory"):
        MODELS["content"]().memory(shop())


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_foreseen(table: str) -> None:
    assert MODELS["sasrec"](dim=16, table=table).memory(shop()).memory_bytes > 0


def test_a_table_on_disk_needs_the_memory_it_may_use(wide: str) -> None:
    data = Dataset.load(wide)
    need = MODELS["sasrec"](dim=128, table="mapped", table_options={"memory": 1 << 20}).memory(data)
    assert need.stays[0].bytes < (1 << 20) + 20 * len(data.items)
    assert {line.what: line.bytes for line in need.disk}["the table's own file"] > 100 << 20


def test_too_little_memory_is_refused_with_the_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 1 << 20)
    with pytest.raises(
        MachineError, match=r"training sasrec needs .* of memory.* 1 MiB are free.*batch_tokens"
    ) as caught:
        MODELS["sasrec"](epochs=1).fit_with(shop(), FitOptions(run=tmp_path / "run"))
    assert caught.value.exit_code == 3
    assert not (tmp_path / "run").exists()


def test_too_little_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(MachineError, match=r"checkpoints.*--out"):
        MODELS["sasrec"](epochs=1).fit_with(shop(), FitOptions(run=tmp_path / "run"))


def test_a_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    group = next(iter(machine._cgroup_folders()))
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text("5000000\n")
    (group / "memory.current").write_text("4000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert machine.free_memory() == 1_500_000
    assert machine.total_memory() == 5_000_000
    (group / "memory.max").write_text("max\n")
    assert machine.free_memory() > 5_000_000


def test_a_limit_on_the_process_counts() -> None:
    code = (
        "import resource; from leanrec.core.machine import free_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); print(free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert 0 < int(done.stdout) < 1 << 30, done.stderr
