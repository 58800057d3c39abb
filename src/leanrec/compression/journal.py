"""What a search has found out, one line of JSON each, appended and on disk before it is used.

A search that was stopped and a search with another budget ask the same questions again and get the same answers, so
they go on where the first one stood. A line that a killed process was writing is dropped.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from leanrec.core.errors import InputError
from leanrec.core.files import disk_errors

__all__ = ["Journal"]

T = TypeVar("T")


class Journal:
    """question -> answer, kept in one file. circumstances: what all answers depend on; lines of others are not used."""

    def __init__(self, path: str | Path, circumstances: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._circumstances = dict(circumstances)
        self._answers: dict[str, Any] = {}
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab+")  # noqa: SIM115
            self._lock()
            self._read()

    def __len__(self) -> int:
        return len(self._answers)

    def ask(self, question: Mapping[str, Any], kind: type[T], find_out: Callable[[], T]) -> T:
        """The answer that was noted, or a new one, which is noted."""
        key = self._key(question)
        if key in self._answers:
            return msgspec.convert(self._answers[key], kind)
        found = find_out()
        self.note(question, found)
        return found

    def note(self, question: Mapping[str, Any], answer: Any) -> None:
        """From now on this is the answer."""
        key, plain = self._key(question), msgspec.to_builtins(answer)
        with disk_errors(self.path):
            self._file.write(msgspec.json.encode({"key": key, "answer": plain}) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._answers[key] = plain

    def knows(self, question: Mapping[str, Any]) -> bool:
        return self._key(question) in self._answers

    def values_of(self, name: str) -> list[str]:
        """What was asked under this name in these circumstances, oldest first."""
        questions = (msgspec.json.decode(key) for key in self._answers)
        same = (one for one in questions if self._circumstances.items() <= one.items())
        return [one[name] for one in same if name in one]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _key(self, question: Mapping[str, Any]) -> str:
        return msgspec.json.encode({**self._circumstances, **question}, order="deterministic").decode()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise InputError(
                f"another search is at work in {self.path.parent}: wait for it, or choose another --out"
            ) from error

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        for line in content[:whole].splitlines():
            entry = msgspec.json.decode(line)
            self._answers[entry["key"]] = entry["answer"]
        if whole < len(content):
            self._file.truncate(whole)
