"""Writing that is all or nothing: to a temporary name, synced, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leanrec.core.errors import MachineError

__all__ = ["atomic_folder", "atomic_write", "disk_errors", "sync_folder", "sync_tree"]


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
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
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

    A folder cannot replace a non-empty folder in one rename, so the old one is first moved aside under a name that
    `recover_folder` recognises; a reader that finds `target` absent between the two renames falls back to it.
    """
    target = Path(target)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.new-", dir=target.parent))
        try:
            yield temporary
            os.chmod(temporary, 0o755)
            sync_tree(temporary)
            recover_folder(target)
            aside = target.parent / f".{target.name}.old"
            if target.exists():
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(target, aside)
            os.rename(temporary, target)
            sync_folder(target.parent)
            shutil.rmtree(aside, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def recover_folder(target: str | Path) -> None:
    """Finish or undo an `atomic_folder` that was cut between its two renames: the old folder gets its name back."""
    target = Path(target)
    aside = target.parent / f".{target.name}.old"
    if aside.exists() and not target.exists():
        os.rename(aside, target)
        sync_folder(target.parent)
