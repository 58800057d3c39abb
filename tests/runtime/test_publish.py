"""Battery row 3: a bundle whose writing is killed, or loses power, at every step: old or new, never mixed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leanrec.core import files
from leanrec.core.errors import BundleError
from leanrec.runtime import bundle as bundles
from leanrec.runtime.bundle import open_bundle, resolve_bundle, write_bundle
from leanrec.runtime.packing import pack
from leanrec.runtime.recommender import Recommender

from .disks import Disk, File, Folder, hook, materialise
from .toys import recommender

SWAPS = pytest.mark.parametrize("swap", [True, False], ids=["one step", "two renames"])


class Publisher:
    """Writes the newer of two bundles over the older one (or where there is none)."""

    def __init__(self, target: Path, *, replace: bool) -> None:
        self.target = target
        self.content = pack(recommender(seed=1))
        self.ids = [recommender(seed=0).save(target)] if replace else []

    def publish(self) -> str:
        return write_bundle(self.target, *self.content)

    def check(self, target: Path, new: str) -> None:
        """What a reader finds, and that the next writer can go on."""
        allowed = [*self.ids, new]
        try:
            found = Recommender.load(resolve_bundle(target)).id
        except ValueError:
            assert not self.ids, "the old bundle is gone"
            assert files.current_folder(target) is None
        else:
            assert found in allowed
        assert write_bundle(target, *self.content) == new
        assert open_bundle(target).id == new


def without_exchange(patch: pytest.MonkeyPatch, swap: bool) -> None:
    if not swap:
        patch.setattr(files, "exchange", lambda one, other: False)


@SWAPS
@pytest.mark.parametrize("replace", [True, False], ids=["over an older one", "for the first time"])
def test_killed_at_every_step(tmp_path: Path, swap: bool, replace: bool) -> None:
    new = write_bundle(tmp_path / "measure", *pack(recommender(seed=1)))
    steps = 0
    while True:
        folder = tmp_path / f"{steps}"
        folder.mkdir()
        publisher = Publisher(folder / "b", replace=replace)
        if not _dies(publisher, steps, swap):
            break
        publisher.check(folder / "b", new)
        steps += 1
    assert steps > 20
    assert open_bundle(folder / "b").id == new


def _dies(publisher: Publisher, step: int, swap: bool) -> bool:
    """Publish in a child that is killed before its step-th change to the disk; whether it came to that."""
    child = os.fork()
    if child == 0:
        left = step

        def count(*_: Any) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        with pytest.MonkeyPatch.context() as patch:
            without_exchange(patch, swap)
            hook(patch, count)
            patch.setattr(bundles, "_write", _in_halves(count))
            publisher.publish()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def _in_halves(count: Callable[..., None]) -> Callable[[Path, bytes], None]:
    def write(path: Path, content: bytes) -> None:
        count()
        with open(path, "xb", buffering=0) as file:
            count()
            file.write(content[: len(content) // 2])
            count()
            file.write(content[len(content) // 2 :])
            count()

    return write


@SWAPS
@pytest.mark.parametrize("replace", [True, False], ids=["over an older one", "for the first time"])
def test_power_lost_at_every_step(tmp_path: Path, swap: bool, replace: bool) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    publisher = Publisher(place / "b", replace=replace)
    disk = Disk(place)
    states: list[dict[str, Any]] = []

    def record(name: str, paths: tuple[Path, ...]) -> None:
        states.extend(state for state in disk.after_power_loss() if state not in states)
        _apply(disk, name, paths)

    def write(path: Path, content: bytes) -> None:
        record("create", (path,))
        path.write_bytes(content)
        disk.find(path).content = content

    with pytest.MonkeyPatch.context() as patch:
        without_exchange(patch, swap)
        hook(patch, record)
        patch.setattr(bundles, "_write", write)
        new = publisher.publish()
    ended = list(disk.after_power_loss())
    assert len(states) > 10
    for number, state in enumerate([*states, *ended]):
        materialise(state, tmp_path / f"{number}")
        publisher.check(tmp_path / f"{number}" / "b", new)
    for number, state in enumerate(ended):  # once publishing has returned, power may go: the new one stays
        materialise(state, tmp_path / f"ended {number}")
        assert open_bundle(tmp_path / f"ended {number}" / "b").id == new


def _apply(disk: Disk, name: str, paths: tuple[Path, ...]) -> None:
    if not paths[0].is_relative_to(disk.root) or (name == "mkdir" and paths[0] == disk.root):
        return
    if name == "fsync":
        node = disk.find(paths[0])
        if isinstance(node, Folder):
            node.sync()
        else:
            node.synced = node.content
    elif name in ("mkdir", "create"):
        disk.create(paths[0], Folder() if name == "mkdir" else File())
    elif name in ("unlink", "rmdir"):
        disk.remove(paths[0])
    elif name in ("rename", "exchange"):
        getattr(disk, name)(*paths)


def test_the_model_of_the_disk_loses_what_is_not_synced(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    _apply(disk, "create", (tmp_path / "a",))
    disk.find(tmp_path / "a").content = b"x"
    assert list(disk.after_power_loss()) == [{}, {"a": b""}]
    _apply(disk, "fsync", (tmp_path / "a",))
    assert list(disk.after_power_loss()) == [{}, {"a": b"x"}]
    _apply(disk, "fsync", (tmp_path,))
    _apply(disk, "rename", (tmp_path / "a", tmp_path / "b"))
    assert list(disk.after_power_loss()) == [{"a": b"x"}, {"b": b"x"}]


def test_the_battery_finds_a_writer_that_does_not_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "sync_tree", lambda folder: None)
    with pytest.raises((AssertionError, BundleError)):
        test_power_lost_at_every_step(tmp_path, True, True)


def test_an_interrupted_exchange_is_found_and_undone(tmp_path: Path) -> None:
    old = recommender(seed=0).save(tmp_path / "b")
    os.rename(tmp_path / "b", tmp_path / ".b.old")
    assert open_bundle(tmp_path / "b").id == old
    assert Recommender.load(tmp_path / "b").id == old
    files.recover_folder(tmp_path / "b")
    assert (tmp_path / "b" / "manifest.json").exists()


def test_what_a_killed_writer_left_is_removed_by_the_next_but_not_what_is_in_use(tmp_path: Path) -> None:
    left = tmp_path / ".b.new-dead"
    left.mkdir()
    (left / "half").write_text("")
    with files.atomic_folder(tmp_path / "b") as busy:
        for folder in (left, busy):
            os.utime(folder, (0, 0))
        write_bundle(tmp_path / "b", {}, {})
        assert busy.exists()
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
