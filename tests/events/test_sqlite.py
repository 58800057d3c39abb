"""The SQLite event store: its contract, and what is particular to a file on a disk."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from leanrec.core.errors import ConfigError, InputError, MachineError, StorageError
from leanrec.events import open_store
from leanrec.events.sqlite import SqliteStore

from .contract import EventStoreContract, event


class TestSqliteStore(EventStoreContract):
    def open(self, folder: Path) -> SqliteStore:
        return SqliteStore(folder / "events.sqlite")


def test_a_url_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///sub/events.sqlite", f"sqlite:///{tmp_path}/sub/events.sqlite"):
        store = open_store(url)
        store.append([event(0)])
        store.close()
    assert (tmp_path / "sub" / "events.sqlite").is_file()


@pytest.mark.parametrize("url", ["events.sqlite", "sqlite://host/x", "sqlite:///", "postgres://h/d"])
def test_a_wrong_url_is_one_sentence(url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url)


def test_many_waiting_callers_share_one_commit(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    assert store._writer is not None
    store._writer.set_trace_callback(count)
    blocker = sqlite3.connect(store.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # holds the first commit up while the others gather
    futures = [store.submit([event(n)]) for n in range(100)]
    blocker.execute("ROLLBACK")
    assert [future.result() for future in futures] == [(1, 0)] * 100
    assert commits <= 3
    blocker.close()
    store.close()


def test_a_foreign_or_newer_file_is_refused(tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "foreign.sqlite")
    foreign.execute("CREATE TABLE mine (x)")
    foreign.close()
    with pytest.raises(InputError, match="something else"):
        SqliteStore(tmp_path / "foreign.sqlite")
    SqliteStore(tmp_path / "newer.sqlite").close()
    newer = sqlite3.connect(tmp_path / "newer.sqlite")
    newer.execute("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(InputError, match="newer leanrec"):
        SqliteStore(tmp_path / "newer.sqlite")
    (tmp_path / "text.sqlite").write_text("not a database " * 100)
    with pytest.raises(StorageError, match="damaged"):
        SqliteStore(tmp_path / "text.sqlite")
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises(MachineError, match="cannot be used"):
        SqliteStore(tmp_path / "folder.sqlite")


def test_one_process_owns_the_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    with pytest.raises(StorageError, match="in use by another process"):
        SqliteStore(tmp_path / "events.sqlite")
    store.close()
    SqliteStore(tmp_path / "events.sqlite").close()


def _flip(path: Path, what: bytes) -> None:
    content = bytearray(path.read_bytes())
    for at in range(len(content)):
        if content[at : at + len(what)] == what:
            content[at] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_noticed_when_the_row_is_read(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.append([event(0, item="precious"), event(1, user="v")])
    store.close()
    _flip(store.path, b"precious")
    store = SqliteStore(store.path)
    with pytest.raises(StorageError, match="checksum"):
        store.of_user("u")
    with pytest.raises(StorageError, match="checksum"):
        list(store.scan())
    assert store.of_user("v") == [event(1, user="v")]
    store.close()


def _unclean(path: Path, target: Path) -> Path:
    """What a process that died leaves behind: a copy of the file and its log while they are open."""
    store = SqliteStore(path)
    store.append([event(n, user=f"user{n}") for n in range(10_000, 10_300)])
    target.mkdir()
    for suffix in ("", "-wal"):
        (target / f"events.sqlite{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    store.close()
    return target / "events.sqlite"


def test_after_an_unclean_end_everything_is_back(tmp_path: Path) -> None:
    store = SqliteStore(_unclean(tmp_path / "a.sqlite", tmp_path / "dead"))
    assert len(list(store.scan())) == 300
    store.close()


def test_after_an_unclean_end_the_file_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = SqliteStore(tmp_path / "a.sqlite")
    first.append([event(n, item=f"thing{n}") for n in range(3000)])
    first.close()
    path = _unclean(tmp_path / "a.sqlite", tmp_path / "dead")
    content = bytearray(path.read_bytes())
    page = content.find(b"thing1234") // 4096 * 4096  # one that the newest rows are not on
    content[page : page + 64] = bytes(64)
    path.write_bytes(content)
    log = Path(f"{path}-wal").read_bytes()
    with pytest.raises(StorageError, match="damaged"):
        SqliteStore(path)
    monkeypatch.setattr("leanrec.events.sqlite._QUICK_CHECK_BYTES", 0)
    Path(f"{path}-wal").write_bytes(log)
    SqliteStore(path).close()


def test_damage_found_on_the_way_is_said(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.append([event(0, item="precious")])
    store._drop_writer()  # as after a failed commit
    _flip(store.path, b"precious")
    Path(f"{store.path}-wal").write_bytes(b"x")
    with pytest.raises(StorageError, match="damaged"):
        store.append([event(1)])
    store.close()


def test_a_reader_elsewhere_stops_an_erasure_from_being_claimed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    store.append([event(0), event(1, user="v")])
    assert store._writer is not None
    store._writer.execute("PRAGMA busy_timeout = 50")
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    with pytest.raises(StorageError):
        store.erase("u")
    reader.close()
    store.erase("u")
    assert b"e0" not in store.path.read_bytes()
    assert list(store.scan()) == [event(1, user="v")]
    store.close()


def test_closing_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.sqlite")
    futures = [store.submit([event(n)]) for n in range(500)]
    closer = threading.Thread(target=store.close)
    closer.start()
    assert [future.result() for future in futures] == [(1, 0)] * 500
    closer.join()
