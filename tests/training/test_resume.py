"""A run killed at any moment and resumed ends with the weights of one left alone, bit for bit (battery row 13)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from leanrec.core.errors import InputError, MachineError
from leanrec.core.tensors import map_tensors
from leanrec.data.dataset import Dataset
from leanrec.models import MODELS
from leanrec.models.base import FitOptions
from leanrec.training import trainer as trainer_module
from leanrec.training.trainer import DivergedError
from tests.models.worlds import shop

_SETTINGS = {"dim": 16, "layers": 1, "heads": 2, "epochs": 6, "patience": 6, "negatives": 16, "batch_tokens": 128}
_TRAIN = """
import sys
from pathlib import Path
from leanrec.data.dataset import Dataset
from leanrec.models import MODELS
from leanrec.models.base import FitOptions
settings = {settings}
options = FitOptions(seed=5, refit=True, run=Path(sys.argv[2]), resume=sys.argv[3] == "resume")
MODELS["esasrec"](**settings).fit_with(Dataset.load(sys.argv[1]), options).save(Path(sys.argv[2]) / "bundle")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shop"
    shop().save(path)
    return path


def _start(data: Path, run: Path, how: str) -> subprocess.Popen[bytes]:
    code = _TRAIN.format(settings=_SETTINGS)
    return subprocess.Popen([sys.executable, "-c", code, str(data), str(run), how], stderr=subprocess.DEVNULL)


def _weights(run: Path) -> dict[str, np.ndarray]:
    return {
        f"{f.stem}.{n}": a for f in sorted((run / "bundle").glob("*.safetensors")) for n, a in map_tensors(f).items()
    }


def test_killed_and_resumed_is_bit_identical(data: Path, tmp_path: Path) -> None:
    assert _start(data, tmp_path / "whole", "fresh").wait() == 0
    random = np.random.default_rng(0)
    process, kills = _start(data, tmp_path / "cut", "fresh"), 0
    last = tmp_path / "cut" / "checkpoints" / "last.safetensors"
    while process.poll() is None and kills < 4:
        before = last.stat().st_mtime_ns if last.exists() else 0
        while process.poll() is None and (last.stat().st_mtime_ns if last.exists() else 0) == before:
            time.sleep(0.005)
        time.sleep(float(random.uniform(0, 0.05)))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            process = _start(data, tmp_path / "cut", "resume")
    assert process.wait() == 0
    assert kills >= 2
    whole, cut = _weights(tmp_path / "whole"), _weights(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, cut[name], err_msg=name)


def _fit(data: Dataset, run: Path, *, resume: bool = False, seed: int = 5) -> None:
    MODELS["sasrec"](**_SETTINGS).fit_with(data, FitOptions(seed=seed, run=run, resume=resume))


def test_interrupted_inside_an_epoch_is_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shop()
    _fit(data, tmp_path / "whole")
    real, steps = trainer_module.Trainer._save, []

    def save_then_stop(self: trainer_module.Trainer) -> None:
        real(self)
        steps.append(self.progress.step)
        if len(steps) == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.Trainer, "_save", save_then_stop)
        patch.setattr(trainer_module.Trainer, "_due", lambda self: True)
        with pytest.raises(KeyboardInterrupt):
            _fit(data, tmp_path / "cut")
    assert steps[-1] > 0
    _fit(data, tmp_path / "cut", resume=True)
    names = ("whole", "cut")
    whole, cut = (map_tensors(tmp_path / name / "checkpoints" / "best.safetensors") for name in names)
    for key, array in whole.items():
        np.testing.assert_array_equal(array, cut[key], err_msg=key)


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    data = shop()
    _fit(data, tmp_path)
    with pytest.raises(InputError, match="another configuration, seed or data"):
        _fit(data, tmp_path, resume=True, seed=6)


def test_a_loss_that_is_no_number_stops_with_the_cause(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="epoch 1, step"):
        MODELS["sasrec"](**{**_SETTINGS, "lr": 1e30}).fit_with(shop(), FitOptions(run=tmp_path))


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shop()
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 12:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MachineError, match="no space left"):
            _fit(data, tmp_path)
    _fit(data, tmp_path, resume=True)
    assert (tmp_path / "bundle" / "manifest.json").exists()
