"""Tables sharded by TorchRec over two real gloo workers: the loss curve of one, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from leanrec.core.errors import ConfigError, InputError, MachineError
from leanrec.jobs.train import TrainJob, train
from leanrec.training.workers.base import WorkersConfig
from leanrec.training.workers.group import Group
from tests.training.test_workers import _SETTINGS, _alone, _plain, _scores, _together, data

__all__ = ["data"]

_HERE = bool(importlib.util.find_spec("torchrec") and importlib.util.find_spec("fbgemm_gpu"))
needs_torchrec = pytest.mark.skipif(not _HERE, reason="TorchRec is not installed: scripts/install_torchrec.sh")
_ADAGRAD = {"table_placement": "torchrec", "ema": 0.0, "table_options": {"optimiser": "rowwise-adagrad"}}
_WAYS: dict[str, dict[str, object]] = {
    "adagrad": _ADAGRAD,
    "sgd": {**_ADAGRAD, "table_options": {"optimiser": "sgd"}, "warmup": 20},
    "full-softmax": {**_ADAGRAD, "objective": "softmax"},
    "averaged": {**_ADAGRAD, "ema": 0.9, "clip": 0.1},
}
_TABLE = """
import os
import numpy as np
import torch
import torch.distributed as dist
from leanrec.nn.tables import make_table
from leanrec.nn.tables.torchrec import TorchRecTable
dist.init_process_group("gloo")
rank = dist.get_rank()
for optimiser in ("rowwise-adagrad", "sgd"):
    make = lambda n: make_table("dense", n, 4, seed=3, options={"optimiser": optimiser})
    table, alone = TorchRecTable(9, make), make(9)

    def step(asked, rate):
        mine = np.asarray(asked[rank], np.int32)
        np.testing.assert_allclose(table.gather(mine).detach(), alone.gather(mine).detach(), atol=1e-6)
        grads = [torch.randn(len(a), 4, generator=torch.Generator().manual_seed(len(a))) for a in asked]
        rows, grad = table.exchange(mine, grads[rank])()
        table.apply(rows, grad, rate)
        rows, places = alone.distinct(np.concatenate([np.asarray(a, np.int32) for a in asked]))
        alone.apply(rows, torch.zeros(len(rows), 4).index_add_(0, torch.from_numpy(places), torch.cat(grads)), rate)
        np.testing.assert_allclose(table.weight(), alone.weight(), atol=1e-6)

    def same():
        mine, its = table.state(), alone.state()
        assert mine.keys() == its.keys()
        for name in its:
            np.testing.assert_allclose(mine[name], its[name], atol=1e-6, err_msg=name)

    step([[8, 0, 4], [4, 5]], 0.5)
    step([[1, 2], [0, 3, 1, 2]], 0.1)  # none of the second worker's rows
    same()
    for each in (table, alone):
        each.erase(np.asarray([4, 7], np.int32))
        each.grow(12)
    same()
    step([[11, 4, 8], [0, 7]], 0.2)
    same()
    other = TorchRecTable(12, make)
    other.load_state(table.state())
    np.testing.assert_array_equal(other.weight(), table.weight())
    kept = {name: array.copy() for name, array in alone.state().items()}
    table.load_state(kept)
    step([[0, 3, 11], [11, 9]], 0.3)
    same()
dist.destroy_process_group()
os._exit(0)  # as launch_worker does: threads of gloo may still hold tensors when the interpreter ends
"""


@needs_torchrec
def test_two_workers_have_the_loss_curve_of_one(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = _together(data, tmp_path, _WAYS)
    for name, settings in _plain(_WAYS).items():
        np.testing.assert_allclose(losses[name], _alone(data, monkeypatch, **settings), rtol=2e-3, err_msg=name)


@needs_torchrec
def test_a_table_over_two_workers_steps_as_one_table() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
    found = subprocess.run([*command, sys.executable, "-c", _TABLE], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-4000:]


@needs_torchrec
def test_checkpoints_fit_another_number_of_workers(data: Path, tmp_path: Path) -> None:
    """Two workers save after an epoch, one with a table of its own goes on, two end it: as one alone does."""
    job = TrainJob(
        model="sasrec", data=str(data), out=str(tmp_path / "whole"), settings={**_SETTINGS, **_ADAGRAD}, save_every=0.0
    )
    train(job)
    job = msgspec.structs.replace(job, out=str(tmp_path / "cut"))
    for at, workers in enumerate((2, 1, 2)):
        part = msgspec.structs.replace(job, workers=workers, resume=at > 0)
        train(part if at == 2 else msgspec.structs.replace(part, time_limit=1e-6))
    np.testing.assert_allclose(_scores(tmp_path / "cut"), _scores(tmp_path / "whole"), atol=1e-3)


@needs_torchrec
@pytest.mark.parametrize(
    ("change", "message"),
    [({"table_options": {}}, "cannot step rows by lazy-adam"), ({"table": "bfloat16"}, "use table=dense")],
)
def test_what_torchrec_cannot_do_is_refused(
    data: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    settings = {**_SETTINGS, **_ADAGRAD, **change}
    with pytest.raises(InputError, match=message):
        train(TrainJob(model="sasrec", data=str(data), out=str(tmp_path / "run"), settings=settings, workers=2))


def test_without_torchrec_the_error_names_what_installs_it(data: Path, tmp_path: Path) -> None:
    if _HERE:
        pytest.skip("TorchRec is installed")
    settings = {**_SETTINGS, **_ADAGRAD}
    with pytest.raises(MachineError, match=r"scripts/install_torchrec\.sh"):
        train(TrainJob(model="sasrec", data=str(data), out=str(tmp_path / "run"), settings=settings, workers=2))


def test_asynchronous_updates_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave it out with torchrec"):
        Group(WorkersConfig(table_placement="torchrec", table_updates="async"))
