"""Battery row 2: a full, failing, slow or powerless disk. Nothing is acknowledged that is not durable; it recovers."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from leanrec.core.errors import StorageError
from leanrec.events import sqlite
from leanrec.events.sqlite import SqliteStore

from .contract import event
from .faulty_disk import FULL, IOERR_FSYNC, IOERR_WRITE, SHORT, Disk, faulty_disk

FAULTS = {
    "no space": ("write", FULL, "no space left"),
    "write fails": ("write", IOERR_WRITE, "input/output error"),
    "short write": ("write", SHORT, "no space left"),
    "fsync fails": ("sync", IOERR_FSYNC, "input/output error"),
}


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = faulty_disk()
    if disk is None:
        pytest.skip("Python's SQLite is not a shared library here, so that no fault can be put under it")
    rewrite = sqlite._rewrite
    monkeypatch.setattr(sqlite, "_rewrite", lambda path: disk.rewritten(path, rewrite))
    with disk.installed():
        yield disk


def survivors(disk: Disk, source: Path, name: str, rng: Random | None = None) -> set[str]:
    """Ids of the events that are there after the power went; the files are examined in `source/name`."""
    store = SqliteStore(disk.after_power_loss(source, source / name, rng) / "events.sqlite")
    ids = [event.event_id for event in store.scan()]
    store.close()
    assert len(ids) == len(set(ids))
    return set(ids)


def failing(operation: str, code: int, after: int = 0, times: int = 10**9) -> Callable[[str, str], int]:
    """A fault for some operations of a kind, after some that pass."""
    count = itertools.count()

    def fault(asked: str, name: str) -> int:
        return code if asked == operation and after <= next(count) < after + times else 0

    return fault


def until_it_works(step: Callable[[], object]) -> None:
    for _ in range(20):
        try:
            step()
        except StorageError:
            continue
        return
    pytest.fail("the store did not recover")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_acknowledges_nobody_and_the_store_recovers(disk: Disk, tmp_path: Path, name: str) -> None:
    operation, code, message = FAULTS[name]
    store = SqliteStore(tmp_path / "events.sqlite")
    assert store.append([event(0)]) == (1, 0)
    disk.fault = failing(operation, code)
    futures = [store.submit([event(n)]) for n in range(1, 20)]
    for future in futures:
        with pytest.raises(StorageError, match=message):
            future.result()
    with pytest.raises(StorageError):  # while it lasts, every attempt fails
        store.append([event(20)])
    disk.fault = lambda operation, name: 0
    assert sum(store.append([event(n) for n in range(21)])) == 21
    assert {e.event_id for e in store.scan()} == {f"e{n}" for n in range(21)}
    assert survivors(disk, tmp_path, "after") == {f"e{n}" for n in range(21)}
    store.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize(
    ("times", "rounds"), [(1, 1), (4, 1), *(pytest.param(times, 10, marks=pytest.mark.long) for times in (1, 2, 4, 9))]
)
def test_wherever_a_fault_strikes_what_is_acknowledged_survives_a_power_loss(
    disk: Disk, tmp_path: Path, name: str, times: int, rounds: int
) -> None:
    operation, code, _ = FAULTS[name]
    rng = Random(3)
    places = list(range(24)) if operation == "sync" else list(range(0, 240, 10))
    for after in itertools.chain(places, (rng.randrange(240) for _ in range(24 * (rounds - 1)))):
        disk.fault = lambda operation, name: 0
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        store = SqliteStore(folder / "events.sqlite")
        disk.fault = failing(operation, code, after, times)
        acknowledged: set[str] = set()
        for n in range(12):
            # Long ids: several pages to write in each commit.
            events = [event(n, item="i" * 3000), event(1000 + n, user="v")]
            until_it_works(lambda: store.append(events))  # noqa: B023
            acknowledged |= {f"e{n}", f"e{1000 + n}"}
            if n % 4 == 1:
                until_it_works(lambda: store.erase("nobody"))  # noqa: B023  # rewrites the main file
            if n % 4 == 3:
                fault, disk.fault = disk.fault, lambda operation, name: 0
                assert acknowledged <= survivors(disk, folder, f"image{n}", rng if n % 8 == 3 else None)
                disk.fault = fault
        assert {e.event_id for e in store.scan()} == acknowledged
        store.close()


def test_a_fault_while_erasing_claims_nothing(disk: Disk, tmp_path: Path) -> None:
    for after in range(12):
        disk.fault = lambda operation, name: 0
        folder = tmp_path / str(after)
        folder.mkdir()
        store = SqliteStore(folder / "events.sqlite")
        store.append([event(n, user=f"person-{n % 3}") for n in range(60)])
        disk.fault = failing("write", FULL, after, 1)
        until_it_works(lambda: store.erase("person-1"))  # noqa: B023
        assert store.of_user("person-1") == []
        assert len(list(store.scan())) == 40
        for file in folder.iterdir():
            assert b"person-1" not in file.read_bytes()
        store.close()


def test_a_read_that_fails_is_a_storage_error_and_the_next_one_works(disk: Disk, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.append([event(0)])
    hidden = tmp_path / "hidden"
    (tmp_path / "events.sqlite").rename(hidden)
    (tmp_path / "events.sqlite").mkdir()
    with pytest.raises(StorageError):
        store.of_user("u")
    (tmp_path / "events.sqlite").rmdir()
    hidden.rename(tmp_path / "events.sqlite")
    assert store.of_user("u") == [event(0)]
    store.close()


def test_a_slow_disk_is_waited_for(disk: Disk, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")

    def slow(operation: str, name: str) -> int:
        if operation == "sync":
            time.sleep(0.05)
        return 0

    disk.fault = slow
    futures = [store.submit([event(n)]) for n in range(50)]
    for n, future in enumerate(futures):
        assert future.result() == (1, 0)
        if n in (0, 49):
            assert f"e{n}" in survivors(disk, tmp_path, f"image{n}")
    syncs = sum(operation == ("sync", "events.sqlite-wal") for operation in disk.operations)
    assert syncs < 25, "waiting callers share commits"
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_for_real(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        store = SqliteStore(small / "events.sqlite")
        acknowledged: list[str] = []
        with pytest.raises(StorageError, match="no space left"):  # noqa: PT012
            for n in range(1000):
                store.append([event(n, item="i" * 2000)])
                acknowledged.append(f"e{n}")
        assert acknowledged
        with pytest.raises(StorageError, match="no space left"):
            SqliteStore(small / "more" / "events.sqlite").append([event(0)])
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        assert store.append([event(5000)]) == (1, 0)
        stored = {e.event_id for e in store.scan()}
        assert {*acknowledged, "e5000"} <= stored
        store.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)
