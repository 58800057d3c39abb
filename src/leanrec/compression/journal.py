"""What a search has found out, one line of JSON each, appended and on disk before it is used.

A search that was stopped and a search with another budget ask the same questions again and get the same answers, so
they go on where the first one stood. A line that a killed process was writing is dropped.

Each line says how long its search had been at work. When the journal answers, the clock of the same search shows at
least that: a search that goes on has what was left of its time, and comes to the same decisions on the way.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from leanrec.core.errors import InputError
from leanrec.core.files import disk_errors

__all__ = ["Journal"]

T = TypeVar("T")


class Journal:
    """question -> answer, kept in one file. circumstances: what all answers depend on; lines of others are not used.

    search: what is looked for. Answers are everybody's, the time that finding them took is that of one search.
    """

    def __init__(
        self, path: str | Path, circumstances: Mapping[str, Any], search: Mapping[str, Any] | None = None
    ) -> None:
        self.path = Path(path)
        self._circumstances = dict(circumstances)
        self._search = msgspec.json.encode(search or {}, order="deterministic").decode()
        self._answers: dict[str, Any] = {}
        self._noted: dict[str, float] = {}
        self._begun = time.monotonic()
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
            self._begun = min(self._begun, time.monotonic() - self._noted.get(key, 0.0))
            return msgspec.convert(self._answers[key], kind)
        found = find_out()
        self.note(question, found)
        return found

    def note(self, question: Mapping[str, Any], answer: Any) -> None:
        """From now on this is the answer."""
        key, plain = self._key(question), msgspec.to_builtins(answer)
        line = {"key": key, "answer": plain, "search": self._search, "spent": self.spent()}
        with disk_errors(self.path):
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._take(line)

    def knows(self, question: Mapping[str, Any]) -> bool:
        return self._key(question) in self._answers

    def spent(self) -> float:
        """Seconds that this search has been at work, before it was stopped too."""
        return time.monotonic() - self._begun

    def questions(self, name: str, same: Set[str] | None = None) -> list[dict[str, Any]]:
        """Those asked under this name, oldest first, where these of the circumstances are the same; all by default."""
        wanted = {key: value for key, value in self._circumstances.items() if same is None or key in same}
        questions = (msgspec.json.decode(key) for key in self._answers)
        return [one for one in questions if name in one and all(one.get(key) == wanted[key] for key in wanted)]

    def differing(self) -> dict[str, tuple[Any, Any]]:
        """Where no line was written in these circumstances: what differs from the newest line, then and now."""
        newest: dict[str, Any] = {}
        for key in self._answers:
            newest = msgspec.json.decode(key)
            if all(newest.get(name) == value for name, value in self._circumstances.items()):
                return {}
        then = [(name, newest.get(name), value) for name, value in self._circumstances.items()]
        return {name: (old, new) for name, old, new in then if old != new} if newest else {}

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
            self._take(msgspec.json.decode(line))
        if whole < len(content):
            self._file.truncate(whole)

    def _take(self, line: Mapping[str, Any]) -> None:
        self._answers[line["key"]] = line["answer"]
        self._noted[line["key"]] = line.get("spent", 0.0) if line.get("search") == self._search else 0.0
