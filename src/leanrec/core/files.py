"""Writing that is all or nothing: to a temporary name, synced, then renamed."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from leanrec.core.errors import MachineError

__all__ = [
    "atomic_file",
    "atomic_folder",
    "atomic_write",
    "current_folder",
    "disk_errors",
    "exchange",
    "recover_folder",
    "sync_folder",
    "sync_tree",
]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_YOUNG = 10.0
"""Seconds in which a folder that nobody has locked may be about to be."""


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot (Linux renameat2)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make every file and folder name below `folder` durable."""
    for parent, _, names in os.walk(folder):
        for name in names:
            handle = os.open(os.path.join(parent, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(parent))


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a failing device into one sentence about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(f"no space left on the disk that holds {path}: free some and run again") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise MachineError(f"{path} cannot be written: {error.strerror}") from error
        if error.errno == errno.EIO:
            raise MachineError(f"the disk that holds {path} reports an input/output error") from error
        raise


def atomic_write(path: str | Path, content: bytes) -> None:
    """Replace the file `path` by `content`; after a crash it holds the old content or the new, never a mix."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A fresh file to fill; on success it becomes `path`, as with `atomic_write`, on failure it is removed."""
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """A fresh folder to fill; on success it becomes `target` (an older one is replaced), on failure it is removed.

    The two are swapped in one step where the file system can. Elsewhere the old one is first moved aside, so that a
    reader may find `target` absent for a moment: `current_folder` tells it where the old one is.
    """
    target = Path(target)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.new-", dir=target.parent))
        in_use = _lock(temporary)
        try:
            yield temporary
            os.chmod(temporary, 0o755)
            sync_tree(temporary)
            recover_folder(target)
            _put_in_place(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            if in_use is not None:
                os.close(in_use)


def _lock(folder: Path) -> int | None:
    """A descriptor that marks the folder as in use until it is closed; None when another process has it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _sweep(target: Path) -> None:
    """Remove what killed processes left half filled."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.new-*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime < _YOUNG:
                continue
            handle = _lock(left)
            if handle is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(handle)


def _put_in_place(temporary: Path, target: Path) -> None:
    aside = _aside(target)
    if not target.exists():
        os.rename(temporary, target)
    elif exchange(temporary, target):
        sync_folder(target.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        return
    else:
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(target, aside)
        sync_folder(target.parent)
        os.rename(temporary, target)
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


def current_folder(target: str | Path) -> Path | None:
    """Where the content of an `atomic_folder` is right now: its own name, or aside while it is being replaced."""
    target = Path(target)
    return next((place for place in (target, _aside(target)) if place.exists()), None)


def recover_folder(target: str | Path) -> None:
    """Undo an `atomic_folder` that was cut between two renames: the old folder gets its name back."""
    target = Path(target)
    aside = _aside(target)
    if aside.exists() and not target.exists():
        os.rename(aside, target)
        sync_folder(target.parent)
