"""A model of a disk: what a folder may look like after power is lost, given the system calls made so far.

Data of a file that was not synced is lost. Changes of a folder's names reach the disk in their order, all of them when
the folder is synced, any number of the later ones otherwise; different folders are independent.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from leanrec.core import files

Change = Callable[[dict[str, Any]], None]


@dataclass
class File:
    content: bytes = b""
    synced: bytes = b""


@dataclass
class Folder:
    """names: as programs see it. synced, pending: as the disk has it, and what is on its way there."""

    names: dict[str, Any] = field(default_factory=dict)
    synced: dict[str, Any] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def change(self, how: Change) -> None:
        how(self.names)
        self.pending.append(how)

    def sync(self) -> None:
        self.synced, self.pending = dict(self.names), []


class Disk:
    """Everything below one folder, from what is there now (synced) and the calls recorded since."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = self._read(root)

    def _read(self, path: Path) -> Folder:
        folder = Folder()
        for entry in path.iterdir():
            if entry.is_dir():
                folder.names[entry.name] = self._read(entry)
            else:
                folder.names[entry.name] = File(entry.read_bytes(), entry.read_bytes())
        folder.sync()
        return folder

    def find(self, path: str | Path) -> Any:
        node: Any = self.top
        for name in Path(path).relative_to(self.root).parts:
            node = node.names[name]
        return node

    def create(self, path: Path, node: Any) -> None:
        self.find(path.parent).change(lambda names: names.__setitem__(path.name, node))

    def remove(self, path: Path) -> None:
        self.find(path.parent).change(lambda names: names.pop(path.name, None))

    def rename(self, one: Path, other: Path) -> None:
        assert one.parent == other.parent
        node = self.find(one)

        def how(names: dict[str, Any]) -> None:
            names.pop(one.name, None)
            names[other.name] = node

        self.find(one.parent).change(how)

    def exchange(self, one: Path, other: Path) -> None:
        first, second = self.find(one), self.find(other)
        self.find(one.parent).change(lambda names: names.update({one.name: second, other.name: first}))

    def after_power_loss(self) -> Iterator[dict[str, Any]]:
        """Every state the disk may be in: name -> content of a file, or the same for a folder."""
        folders = list(self._folders(self.top))
        choices = [range(len(folder.pending) + 1) for folder in folders]
        for lengths in itertools.islice(itertools.product(*choices), 64):
            kept = {id(folder): length for folder, length in zip(folders, lengths, strict=True)}
            yield self._state(self.top, kept)

    def _folders(self, folder: Folder) -> Iterator[Folder]:
        yield folder
        nodes = {id(n): n for n in [*folder.names.values(), *folder.synced.values()] if isinstance(n, Folder)}
        for node in nodes.values():
            yield from self._folders(node)

    def _state(self, folder: Folder, kept: dict[int, int]) -> dict[str, Any]:
        names = dict(folder.synced)
        for how in folder.pending[: kept.get(id(folder), 0)]:
            how(names)
        return {n: self._state(x, kept) if isinstance(x, Folder) else x.synced for n, x in names.items()}


def materialise(state: dict[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in state.items():
        if isinstance(content, dict):
            materialise(content, folder / name)
        else:
            (folder / name).write_bytes(content)


def _full(path: Any, dir_fd: int | None = None) -> Path:
    if isinstance(path, int):
        return Path(f"/proc/self/fd/{path}").readlink()
    base = Path() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
    return base / os.fsdecode(path)


def hook(patch: pytest.MonkeyPatch, before: Callable[[str, tuple[Path, ...]], None]) -> None:
    """Call `before(name of the call, paths)` ahead of every call that changes the disk."""

    def wrap(name: str, real: Callable[..., Any], count: int) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            folder = kwargs.get("dir_fd")
            before(name, tuple(_full(path, folder) for path in args[:count]))
            return real(*args, **kwargs)

        return called

    for name, count in (("fsync", 1), ("mkdir", 1), ("unlink", 1), ("rmdir", 1), ("chmod", 1), ("rename", 2)):
        patch.setattr(os, name, wrap(name, getattr(os, name), count))
    if files.exchange.__module__ == files.__name__:
        patch.setattr(files, "exchange", wrap("exchange", files.exchange, 2))
