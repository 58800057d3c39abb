"""The table on disk: the contract, the same as in memory bit for bit, and what happens when things end badly."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from leanrec.core.errors import ConfigError, InputError, StorageError
from leanrec.core.tensors import map_tensors, serialize
from leanrec.nn.tables import Table, make_table
from leanrec.nn.tables.mapped import MappedTable
from tests.nn.table_contract import TableContract, gradient, saved

RECORD = {"lazy-adam": 3 * 4 * 4, "rowwise-adagrad": 5 * 4, "sgd": 4 * 4}


@pytest.mark.parametrize("optimiser", RECORD)
@pytest.mark.parametrize("slots", [4, 1000])
class TestMappedTable(TableContract):
    """With memory for all rows, and for four of them."""

    @pytest.fixture(autouse=True)
    def _options(self, optimiser: str, slots: int, tmp_path: Path) -> None:
        self.options = {"optimiser": optimiser, "memory": slots * RECORD[optimiser], "folder": str(tmp_path)}

    def make(self, num_rows: int, dim: int, seed: int = 0) -> Table:
        return make_table("mapped", num_rows, dim, seed=seed, options={**self.options})


def mapped(tmp_path: Path, rows: int = 300, slots: int = 64, **options: object) -> MappedTable:
    table = make_table("mapped", rows, 8, options={"memory": slots * 96, "folder": str(tmp_path), **options})
    assert isinstance(table, MappedTable)
    return table


def zipf_rows(step: int, rows: int = 300, count: int = 40) -> np.ndarray:
    random = np.random.default_rng(step)
    return np.unique((rows ** random.random(count)).astype(np.int32) - 1)


def train(table: Table, steps: range) -> None:
    for step in steps:
        rows = zipf_rows(step)
        leaf = table.gather(rows)
        table.prefetch(zipf_rows(step + 1))
        (leaf.square().sum() + (leaf * gradient(step, len(rows), 8)).sum()).backward()
        table.apply(rows, leaf.grad, 0.05)


def until_it_fails(table: Table, start: int) -> None:
    for step in range(start, 400, 10):
        train(table, range(step, step + 10))
        table.state()


@pytest.mark.parametrize("optimiser", RECORD)
def test_it_trains_like_the_dense_table_bit_for_bit(tmp_path: Path, optimiser: str) -> None:
    disk = mapped(tmp_path, optimiser=optimiser)
    memory = make_table("dense", 300, 8, options={"optimiser": optimiser})
    for table in (disk, memory):
        train(table, range(150))
    np.testing.assert_array_equal(disk.weight(), memory.weight())
    leaf = disk.gather(np.arange(300, dtype=np.int32)[::-1].copy())
    np.testing.assert_array_equal(leaf.detach().numpy(), memory.weight()[::-1])


def test_nothing_is_on_disk_before_a_row_has_to_leave(tmp_path: Path) -> None:
    table = mapped(tmp_path, slots=300)
    train(table, range(20))
    assert list(tmp_path.iterdir()) == []
    table.state()
    assert [path.name for path in tmp_path.iterdir()] == [table._file.path.name]


def test_hot_rows_stay_in_memory(tmp_path: Path) -> None:
    table = mapped(tmp_path, slots=64)
    train(table, range(100))
    assert (table._slots.slot_of_row_N[:16] >= 0).all()


def test_memory_is_what_was_allowed(tmp_path: Path) -> None:
    table = make_table("mapped", 100_000, 64, options={"memory": 1 << 20, "folder": str(tmp_path)})
    assert (1 << 20) - 768 < table.nbytes - 8 * 100_000 < 1.1 * (1 << 20)


def test_a_table_without_a_folder_leaves_nothing_behind() -> None:
    table = make_table("mapped", 300, 8, options={"memory": 64 * 96})
    train(table, range(20))
    assert isinstance(table, MappedTable)
    path = table._file.path
    assert path.exists()
    table.close()
    del table
    assert not path.parent.exists()


def test_weights_larger_than_the_memory_allowed_are_mapped(tmp_path: Path) -> None:
    disk, memory = mapped(tmp_path), make_table("dense", 300, 8)
    for table in (disk, memory):
        train(table, range(30))
    weight = disk.weight()
    assert isinstance(weight, np.memmap)
    np.testing.assert_array_equal(weight, memory.weight())


def test_the_file_does_not_grow_once_nothing_needs_the_old_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanrec.nn.tables.rowfile._EXTENT", 8)
    table = mapped(tmp_path, slots=48)
    best = saved(table)
    sizes = []
    for epoch in range(30):
        train(table, range(20 * epoch, 20 * epoch + 20))
        table.keep([best, saved(table)])
        sizes.append(table._file.path.stat().st_size)
    assert sizes[-1] == sizes[10]
    live = 300 * 96
    assert sizes[-1] < 16 * live


def test_saved_states_survive_all_that_is_written_after_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.nn.tables.rowfile._EXTENT", 2)
    table = mapped(tmp_path, slots=48)
    kept: list[tuple[dict[str, np.ndarray], np.ndarray]] = []
    for epoch in range(12):
        train(table, range(10 * epoch, 10 * epoch + 10))
        kept.append((saved(table), np.array(table.weight())))
        kept = [kept[len(kept) // 2], kept[-1]]
        table.keep([state for state, _ in kept])
    for state, weight in kept:
        table.load_state(state)
        np.testing.assert_array_equal(table.weight(), weight)


def test_an_erased_row_is_gone_from_the_file(tmp_path: Path) -> None:
    table = mapped(tmp_path, slots=48)
    train(table, range(30))
    rows = np.arange(300, dtype=np.int32)
    table.gather(rows[200:248])  # drives the others out
    written = rows[table._file.places_N >= 0]
    secret = table._file.read(written[3:4])[0, :4].tobytes()
    assert secret in table._file.path.read_bytes()
    table.erase(written[3:4])
    assert secret not in table._file.path.read_bytes()


class TestWhatGoesWrong:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        table = mapped(tmp_path)
        train(table, range(5))
        state, path = saved(table), table._file.path
        table.close()
        path.unlink()
        with pytest.raises(InputError, match=path.name):
            mapped(tmp_path).load_state(state)

    def test_a_file_in_use_is_refused(self, tmp_path: Path) -> None:
        table = mapped(tmp_path)
        train(table, range(5))
        with pytest.raises(InputError, match="in use by another run"):
            mapped(tmp_path).load_state(saved(table))

    def test_files_of_runs_that_ended_are_removed_and_those_of_others_not(self, tmp_path: Path) -> None:
        ended, other, table = (mapped(tmp_path) for _ in range(3))
        for each in (ended, other, table):
            train(each, range(5))
            each.state()
        gone = ended._file.path
        ended.close()
        table.keep([saved(table)])
        assert not gone.exists()
        assert {other._file.path, table._file.path} == set(tmp_path.iterdir())

    def test_too_little_memory_for_one_row_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="memory=10"):
            mapped(tmp_path, memory=10)

    @pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fdatasync"])
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
    def test_a_full_or_failing_disk_leaves_the_last_state(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
    ) -> None:
        monkeypatch.setattr("leanrec.nn.tables.rowfile._EXTENT", 2)
        table = mapped(tmp_path, slots=48)
        train(table, range(10))
        state, weight = saved(table), np.array(table.weight())

        def fail(*arguments: object) -> int:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(StorageError, match="last checkpoint"):
                until_it_fails(table, 10)
        table.close()
        again = mapped(tmp_path, slots=48)
        again.load_state(state)
        np.testing.assert_array_equal(again.weight(), weight)

    def test_a_full_disk_changes_nothing_in_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("leanrec.nn.tables.rowfile._EXTENT", 1)
        disk, memory = mapped(tmp_path, slots=48), make_table("dense", 300, 8)

        def fail(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        for table in (disk, memory):
            train(table, range(10))
        monkeypatch.setattr(os, "posix_fallocate", fail)
        done = 10
        with suppress(StorageError):
            while True:
                train(disk, range(done, done + 1))
                done += 1
        monkeypatch.undo()
        train(memory, range(10, done))
        np.testing.assert_array_equal(disk.weight(), memory.weight())


CHILD = """
import os, sys
from pathlib import Path
import numpy as np
from leanrec.core.files import atomic_write
from leanrec.core.tensors import map_tensors, serialize
from tests.nn.test_mapped import mapped, train
folder, start, stop = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
table = mapped(folder, slots=48)
checkpoint = folder / "last.safetensors"
if checkpoint.exists():
    table.load_state(map_tensors(checkpoint))
for step in range(start, stop):
    train(table, range(step, step + 1))
    if step % 7 == 6:
        state = table.state()
        atomic_write(checkpoint, serialize({**state, "at": np.asarray([step + 1])}))
        table.keep([state])
    print(step, flush=True)
np.save(folder / "weight.npy", table.weight())
"""


def test_killed_at_any_step_it_resumes_to_the_same_values(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    start = 0
    for kill_after in (9, 40):
        with subprocess.Popen([*command, str(start), "60"], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if int(line) == kill_after:
                    child.send_signal(signal.SIGKILL)
                    break
        start = int(map_tensors(tmp_path / "last.safetensors")["at"][0])
        assert kill_after - 7 < start <= 60
    subprocess.run([*command, str(start), "60"], check=True, stdout=subprocess.DEVNULL)
    memory = make_table("dense", 300, 8)
    train(memory, range(60))
    np.testing.assert_array_equal(np.load(tmp_path / "weight.npy"), memory.weight())


def test_a_state_goes_through_a_checkpoint_file(tmp_path: Path) -> None:
    table = mapped(tmp_path)
    train(table, range(9))
    (tmp_path / "state").write_bytes(serialize(table.state()))
    weight = np.array(table.weight())
    train(table, range(9, 12))
    table.load_state(map_tensors(tmp_path / "state"))
    np.testing.assert_array_equal(table.weight(), weight)
    assert torch.equal(table.gather(np.asarray([3], np.int32)).detach(), torch.from_numpy(weight[3:4]))
