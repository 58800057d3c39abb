"""Events in one SQLite file: write-ahead log, an fsync before every answer, many callers sharing one commit.

Each row carries a CRC of its content, checked whenever it is read. One process owns the file (a lock beside it).

After a failed fsync the kernel calls pages clean that never reached the disk, so that nothing read back from the log
is sure to be there ("Can Applications Recover from fsync Failures?", USENIX ATC 2020). Hence a failed commit throws the
connection away, and whoever opens a log that is not empty writes it once more, byte for byte, with an fsync, before
SQLite reads it and empties it into the main file: what is acknowledged later never rests on a lost page.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from leanrec.core.errors import ConfigError, InputError, LeanrecError, StorageError
from leanrec.core.files import disk_errors, sync_folder
from leanrec.core.ids import Id
from leanrec.events.base import Event, EventStore
from leanrec.events.rows import from_row, stored_id, to_row

__all__ = ["SqliteStore"]

_APPLICATION = 0x6C726576  # "lrev", in the header of the file
_VERSION = 1
_SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, user_id ANY NOT NULL, item_id ANY NOT NULL,
    event TEXT NOT NULL, timestamp REAL NOT NULL, value REAL, crc INTEGER NOT NULL
) STRICT;
CREATE INDEX events_of_user ON events (user_id, timestamp);
"""
_INSERT = """INSERT INTO events (event_id, user_id, item_id, event, timestamp, value, crc) VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (event_id) DO NOTHING"""
_COLUMNS = "seq, event_id, user_id, item_id, event, timestamp, value, crc"
_SCAN_ROWS = 1000
_QUICK_CHECK_BYTES = 64 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Task:
    """Something to do inside the next transaction; the future ends after it is durable."""

    work: Callable[[sqlite3.Connection], Any]
    future: Future[Any]
    scrub: bool = False
    """Leave no trace on disk of what was deleted before the future ends."""


class SqliteStore(EventStore):
    """One writer thread commits whatever has gathered; readers see what is committed."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Condition()
        self._waiting: list[_Task] = []
        self._closed = False
        self._read_lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._owner = _own(self.path)
        try:
            self._writer: sqlite3.Connection | None = self._open()
            sync_folder(self.path.parent)
        except (sqlite3.Error, OSError) as error:
            os.close(self._owner)
            raise self._explain(error) from error
        except LeanrecError:
            os.close(self._owner)
            raise
        self._thread = threading.Thread(target=self._write_loop, name="event-writer", daemon=True)
        self._thread.start()

    @classmethod
    def from_url(cls, url: str) -> Self:
        path = url.removeprefix("sqlite:///")
        if path == url or not path:
            raise ConfigError(
                f"{url!r} names no file: write it like sqlite:///events.sqlite or sqlite:////var/ev.sqlite"
            )
        return cls(path)

    # ---- what callers see

    def submit(self, events: Sequence[Event]) -> Future[tuple[int, int]]:
        rows = [to_row(event) for event in events]

        def insert(connection: sqlite3.Connection) -> tuple[int, int]:
            accepted = connection.executemany(_INSERT, rows).rowcount if rows else 0
            return accepted, len(rows) - accepted

        return self._enqueue(insert)

    def erase(self, user_id: Id) -> int:
        user_id = stored_id(user_id)

        def delete(connection: sqlite3.Connection) -> int:
            return connection.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount

        erased: int = self._enqueue(delete, scrub=True).result()
        return erased

    def of_user(self, user_id: Id, limit: int = 1000) -> list[Event]:
        query = f"SELECT {_COLUMNS} FROM events WHERE user_id = ? ORDER BY timestamp DESC, seq DESC LIMIT ?"
        return [self._event(row) for row in reversed(self._read(query, (stored_id(user_id), limit)))]

    def scan(self) -> Iterator[Event]:
        # In short reads, so that a slow consumer never holds back a checkpoint.
        query, last = f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT {_SCAN_ROWS}", -1
        while rows := self._read(query, (last,)):
            yield from (self._event(row) for row in rows)
            last = rows[-1][0]

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._lock.notify()
        self._thread.join()
        os.close(self._owner)

    # ---- the writer thread

    def _enqueue(self, work: Callable[[sqlite3.Connection], Any], *, scrub: bool = False) -> Future[Any]:
        task = _Task(work, Future(), scrub)
        with self._lock:
            if self._closed:
                raise StorageError("the event store is closed")
            self._waiting.append(task)
            self._lock.notify()
        return task.future

    def _write_loop(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._closed:
                    self._lock.wait()
                group, self._waiting = self._waiting, []
            if not group:
                break
            self._commit([task for task in group if task.future.set_running_or_notify_cancel()])
        self._drop_reader()
        self._drop_writer()

    def _commit(self, group: list[_Task]) -> None:
        """One transaction for the whole group; either all of it is durable, or nobody is told that it is."""
        try:
            if self._writer is None:
                self._writer = self._open()
            self._writer.execute("BEGIN IMMEDIATE")
            results = [task.work(self._writer) for task in group]
            self._writer.execute("COMMIT")
        except Exception as error:
            self._drop_writer()
            _fail(group, self._explain(error))
            return
        scrubs = [task for task in group if task.scrub]
        try:
            if scrubs:
                self._scrub(self._writer)
        except sqlite3.Error as error:
            self._drop_writer()
            _fail(scrubs, self._explain(error))
        for task, result in zip(group, results, strict=True):
            if not task.future.done():
                task.future.set_result(result)

    def _scrub(self, writer: sqlite3.Connection) -> None:
        # secure_delete zeroes deleted rows, but a page split may have left an older copy in a gap of another page;
        # only a rewrite of the file is sure to have none. The log holds old pages too, so it is cut to nothing.
        with self._read_lock:
            writer.execute("VACUUM")
            _truncate_log(writer)

    # ---- connections

    def _open(self) -> sqlite3.Connection:
        unclean = _rewrite(Path(f"{self.path}-wal"))
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            self._check_format(connection)
            with self._read_lock:
                _truncate_log(connection)
            if unclean:
                self._check_content(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_format(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != _APPLICATION and (application or tables):
            raise InputError(f"{self.path} is an SQLite file of something else: name another file for the events")
        if version > _VERSION:
            raise InputError(f"{self.path} was written by a newer leanrec (format {version}): update leanrec")
        if not tables:
            connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION}; COMMIT;"
            )

    def _check_content(self, connection: sqlite3.Connection) -> None:
        """After an unclean end: the newest rows, and the whole file where that is quick."""
        for row in connection.execute(f"SELECT {_COLUMNS} FROM events ORDER BY seq DESC LIMIT {_SCAN_ROWS}"):
            self._event(row)
        if self.path.stat().st_size <= _QUICK_CHECK_BYTES:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise self._damaged(verdict)

    def _read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._read_lock:
                if self._reader is None:
                    self._reader = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
                    self._reader.execute("PRAGMA query_only = ON")
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._drop_reader()
            raise self._explain(error) from error

    def _drop_reader(self) -> None:
        with self._read_lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # ---- rows and errors

    def _event(self, row: tuple[Any, ...]) -> Event:
        event = from_row(row[1:])
        if event is None:
            raise self._damaged(f"the checksum of event number {row[0]} does not fit")
        return event

    def _damaged(self, what: str) -> StorageError:
        return StorageError(f"the event store {self.path} is damaged ({what}): restore it, or move it aside")

    def _explain(self, error: Exception) -> StorageError:
        code = getattr(error, "sqlite_errorname", "") or ""
        number = error.errno if isinstance(error, OSError) else None
        if code == "SQLITE_FULL" or number == errno.ENOSPC:
            return StorageError(f"no space left on the disk that holds {self.path}: free some and send again")
        if code.startswith("SQLITE_IOERR") or number == errno.EIO:
            return StorageError(f"the disk that holds {self.path} reports an input/output error ({code or error})")
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self._damaged(str(error))
        if isinstance(error, StorageError):
            return error
        return StorageError(f"the event store {self.path} cannot be used: {error}")


def _own(path: Path) -> int:
    """The descriptor of a lock that says that this process owns the file; it goes with the process."""
    handle = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StorageError(f"the event store {path} is in use by another process: stop it, or name another") from error
    return handle


def _rewrite(log: Path) -> bool:
    """Write a log that was left behind once more, so that what is read from it is on disk; whether there was one."""
    if not log.exists() or not log.stat().st_size:
        return False
    with open(log, "r+b") as file:
        while chunk := file.read(_CHUNK):
            file.seek(-len(chunk), os.SEEK_CUR)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return True


def _truncate_log(connection: sqlite3.Connection) -> None:
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("another process is reading it, so its log cannot be cut")


def _fail(tasks: Iterable[_Task], error: StorageError) -> None:
    for task in tasks:
        task.future.set_exception(error)
