"""All or nothing on disk: files, folders, and what is said when the disk refuses."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from leanrec.core import files
from leanrec.core.errors import MachineError
from leanrec.core.files import atomic_folder, atomic_write, current_folder, disk_errors, exchange


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic_write(tmp_path / "deep" / "f", b"old")
    atomic_write(tmp_path / "deep" / "f", b"newer")
    assert (tmp_path / "deep" / "f").read_bytes() == b"newer"

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(MachineError, match="input/output error"):
        atomic_write(tmp_path / "deep" / "f", b"newest")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["f"]
    assert (tmp_path / "deep" / "f").read_bytes() == b"newer"


def test_a_folder_that_fails_to_fill_leaves_the_old_one(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "d") as fresh:
        (fresh / "f").write_text("old")

    def fail(fresh: Path) -> None:
        (fresh / "f").write_text("new")
        raise KeyError

    with pytest.raises(KeyError), atomic_folder(tmp_path / "d") as fresh:
        fail(fresh)
    assert (tmp_path / "d" / "f").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("swap", [True, False])
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, swap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not swap:
        monkeypatch.setattr(files, "exchange", lambda one, other: False)
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "d") as fresh:
            (fresh / text).write_text(text)
        assert current_folder(tmp_path / "d") == tmp_path / "d"
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    assert current_folder(tmp_path / "other") is None


class OldLibrary:
    """A C library without renameat2."""


def test_exchange_says_when_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "nothing")
    for code, answer in ((errno.ENOSYS, False), (errno.EINVAL, False)):
        monkeypatch.setattr(ctypes, "get_errno", lambda code=code: code)
        assert exchange(tmp_path / "a", tmp_path / "nothing") is answer
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: OldLibrary())
    assert exchange(tmp_path / "a", tmp_path / "b") is False


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "no space left on the disk that holds"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be written"),
        (errno.EIO, "input/output error"),
    ],
)
def test_what_a_disk_refuses_is_one_sentence(code: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=said), disk_errors(tmp_path):
        raise OSError(code, os.strerror(code))


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ProcessLookupError), disk_errors(tmp_path):
        raise ProcessLookupError(errno.ESRCH, "no process")


def test_a_folder_that_another_process_fills_is_left_alone(tmp_path: Path) -> None:
    handle = files._lock(tmp_path)
    assert handle is not None
    assert files._lock(tmp_path) is None
    os.close(handle)
