"""Two real workers over gloo: the loss curve of one, however they share the work; a lost worker; resharding."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from leanrec.core.errors import ConfigError, InputError
from leanrec.jobs.train import TrainJob, train
from leanrec.training.loader import SequenceLoader
from leanrec.training.workers.base import WorkersConfig
from leanrec.training.workers.group import Group, deal_rows, take_rows
from tests.models.worlds import shop

_SETTINGS = {
    "dim": 16, "layers": 1, "heads": 2, "epochs": 3, "patience": 3, "negatives": 16, "batch_tokens": 128,
    "dropout": 0.0, "precision": "float32", "clip": 1.0, "horizon": 1,
}  # fmt: skip
_TWO = """
import json, os, sys
import numpy as np
import torch.distributed as dist
from pathlib import Path
from leanrec.core.errors import LeanrecError
from leanrec.data.dataset import Dataset
from leanrec.models import MODELS
from leanrec.models.base import FitOptions
from leanrec.training import task
dist.init_process_group("gloo")
data, settings, folder = Dataset.load(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
losses = []
step = task.NextItem.step
def watched(self, batch):
    losses.append(step(self, batch))
    return losses[-1]
task.NextItem.step = watched
for name, change in json.loads(sys.argv[4]).items():
    losses.clear()
    options = FitOptions(seed=5, distributed=True, run=folder / name if name.startswith("run") else None)
    MODELS["sasrec"](**{**settings, **change}).fit_with(data, options)
    if dist.get_rank() == 0:
        (folder / f"{name}.json").write_text(json.dumps(losses))
dist.destroy_process_group()
os._exit(0)  # as launch_worker does: threads of gloo may still hold tensors when the interpreter ends
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shop"
    shop().save(path)
    return path


def _alone(data: Path, monkeypatch: pytest.MonkeyPatch, **change: object) -> np.ndarray:
    """The losses of every step of one worker."""
    from leanrec.data.dataset import Dataset
    from leanrec.models import MODELS
    from leanrec.models.base import FitOptions
    from leanrec.training.task import NextItem

    losses, step = [], NextItem.step

    def watched(self: NextItem, batch: object) -> float:
        losses.append(step(self, batch))  # type: ignore[arg-type]
        return losses[-1]

    monkeypatch.setattr(NextItem, "step", watched)
    MODELS["sasrec"](**{**_SETTINGS, **change}).fit_with(Dataset.load(data), FitOptions(seed=5))
    return np.asarray(losses)


def _together(data: Path, folder: Path, ways: dict[str, dict[str, object]]) -> dict[str, np.ndarray]:
    """The losses of two workers, for each way, in one group of processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
    command += [sys.executable, "-c", _TWO, str(data), json.dumps(_SETTINGS), str(folder), json.dumps(ways)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-4000:]
    return {name: np.asarray(json.loads((folder / f"{name}.json").read_text())) for name in ways}


_EXACT: dict[str, dict[str, object]] = {
    "replicated": {},
    "sharded": {"table_placement": "sharded"},
    "full-softmax": {"objective": "softmax"},
    "sharded-full-softmax": {"objective": "softmax", "table_placement": "sharded"},
    "accumulated": {"accumulate": 2},
    "adagrad": {"table_placement": "sharded", "table_options": {"optimiser": "rowwise-adagrad"}},
    "fsdp": {"parallel": "fsdp"},
    "tensor": {"parallel": "tensor"},
}
_CLOSE: dict[str, dict[str, object]] = {
    "fp16": {"gradient_compression": "fp16"},
    "int8": {"gradient_compression": "int8"},
    "powersgd": {"gradient_compression": "powersgd"},
    "local": {"local_steps": 4},
    "async": {"table_updates": "async"},
    "async-sharded": {"table_updates": "async", "table_placement": "sharded"},
}


def test_two_workers_have_the_loss_curve_of_one(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = _together(data, tmp_path, {**_EXACT, **_CLOSE})
    alone = {name: _alone(data, monkeypatch, **losses_of) for name, losses_of in _plain(_EXACT).items()}
    for name, curve in alone.items():
        np.testing.assert_allclose(losses[name], curve, rtol=2e-3, err_msg=name)
    for name in _CLOSE:
        assert len(losses[name]) == len(alone["replicated"])
        np.testing.assert_allclose(losses[name][-5:].mean(), alone["replicated"][-5:].mean(), rtol=0.05, err_msg=name)


def _plain(ways: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    ours = WorkersConfig.__struct_fields__
    return {name: {k: v for k, v in change.items() if k not in ours} for name, change in ways.items()}


def test_parts_of_a_batch_are_balanced_and_make_the_whole() -> None:
    loader = SequenceLoader(shop().train(), max_length=10, batch_tokens=100, num_items=42, negatives=8)
    for batch in loader.epoch(0):
        row_T = batch.slots_T // batch.items_RL.shape[1]
        dealt = deal_rows(np.bincount(row_T, minlength=len(batch.items_RL)), 2)
        assert sorted(np.concatenate(dealt)) == list(range(len(batch.items_RL)))
        parts = [take_rows(batch, rows) for rows in dealt]
        sizes = [len(part.targets_T) for part in parts]
        assert sum(sizes) == len(batch.targets_T)
        assert abs(sizes[0] - sizes[1]) <= batch.items_RL.shape[1]
        together = sorted(
            (int(item), int(target))
            for part in parts
            for item, target in zip(part.items_RL.reshape(-1)[part.slots_T], part.targets_T, strict=True)
        )
        whole = zip(batch.items_RL.reshape(-1)[batch.slots_T], batch.targets_T, strict=True)
        assert together == sorted((int(item), int(target)) for item, target in whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parallel": "dpp"}, "did you mean 'ddp'"),
        ({"parallel": "fsdp", "local_steps": 2}, "local_steps goes with parallel=ddp"),
        ({"parallel": "tensor", "gradient_compression": "int8"}, "gradient_compression goes with parallel=ddp"),
        ({"local_steps": 2, "gradient_compression": "int8"}, "sends weights, not gradients"),
        ({"parallel": "tensor", "table_placement": "sharded"}, "the same rows"),
        ({"local_steps": 0}, "below 1"),
    ],
)
def test_choices_that_exclude_each_other_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Group(WorkersConfig(**change))  # type: ignore[arg-type]


def test_errors_of_a_worker_are_one_sentence(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not train step by step"):
        train(TrainJob(model="popular", data=str(data), out=str(tmp_path / "run"), workers=2))
    settings = {**_SETTINGS, "parallel": "fsdp", "local_steps": 2}
    job = TrainJob(model="sasrec", data=str(data), out=str(tmp_path / "run"), settings=settings, workers=2)
    with pytest.raises(InputError, match="local_steps goes with parallel=ddp"):
        train(job)


def _scores(run: Path) -> list[float]:
    card = json.loads((run / "bundle" / "manifest.json").read_text())["card"]
    return [round(score, 4) for score in card["validation"]]


_JOB = """
import sys, msgspec
from leanrec.jobs.train import TrainJob, train
train(msgspec.json.decode(sys.argv[1], type=TrainJob))
"""


def _start(job: TrainJob) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _JOB, msgspec.json.encode(job).decode()]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_killed_worker_is_replaced_and_the_run_ends_as_if_none_had_been(data: Path, tmp_path: Path) -> None:
    settings = {**_SETTINGS, "epochs": 60, "patience": 60}
    job = TrainJob(model="sasrec", data=str(data), out=str(tmp_path / "cut"), settings=settings, save_every=0.05)
    run = _start(msgspec.structs.replace(job, workers=2))
    last = tmp_path / "cut" / "checkpoints" / "last.safetensors"
    while run.poll() is None and not last.exists():
        time.sleep(0.01)
    victims = _children(run.pid)
    assert len(victims) == 2
    os.kill(victims[-1], signal.SIGKILL)
    told = run.communicate()[1]
    assert run.returncode == 0, told[-2000:]
    assert "going on from the last checkpoint" in told
    train(msgspec.structs.replace(job, out=str(tmp_path / "whole")))
    np.testing.assert_allclose(_scores(tmp_path / "cut"), _scores(tmp_path / "whole"), atol=0.02)


def test_checkpoints_fit_another_number_of_workers(data: Path, tmp_path: Path) -> None:
    """Two sharded workers save after a third of the epochs, one goes on and saves, two end it: as one alone does."""
    settings = {**_SETTINGS, "table_placement": "sharded", "ema": 0.9}
    job = TrainJob(model="sasrec", data=str(data), out=str(tmp_path / "whole"), settings=settings, save_every=0.0)
    train(job)
    job = msgspec.structs.replace(job, out=str(tmp_path / "cut"))
    for at, workers in enumerate((2, 1, 2)):
        part = msgspec.structs.replace(job, workers=workers, resume=at > 0)
        if at < 2:
            part = msgspec.structs.replace(part, time_limit=1e-6)  # ends after the epoch under way
        train(part)
    np.testing.assert_allclose(_scores(tmp_path / "cut"), _scores(tmp_path / "whole"), atol=1e-3)


def _scores(run: Path) -> list[float]:
    """The best weights' validation scores, epoch by epoch."""
    card = json.loads((run / "bundle" / "manifest.json").read_text())["card"]
    return [float(score) for score in card["validation"]]


@pytest.mark.long
def test_ray_trains_as_one_worker_does(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    job = TrainJob(model="sasrec", data=str(data), out=str(tmp_path / "alone"), settings=_SETTINGS)
    train(job)
    run = _start(msgspec.structs.replace(job, out=str(tmp_path / "ray"), workers=2, cluster="local"))
    told = run.communicate()[1]
    assert run.returncode == 0, told[-2000:]
    np.testing.assert_allclose(_scores(tmp_path / "ray"), _scores(tmp_path / "alone"), atol=1e-3)


def _children(pid: int) -> list[int]:
    """The workers under the launcher."""
    import psutil

    return [p.pid for p in psutil.Process(pid).children(recursive=True) if "leanrec.jobs.launch_worker" in p.cmdline()]
