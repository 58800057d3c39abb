"""Names to ways of doing a thing, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from leanrec.core.errors import ConfigError, MissingExtra

__all__ = ["Entry", "Registry", "nearest"]

T = TypeVar("T")


def nearest(name: str, known: Iterator[str] | list[str]) -> str:
    """' (did you mean ...?)' when something known is close to `name`, else ''."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one way lives (`package.module:Name`), what it is in one line, and the extra it needs, if any."""

    target: str
    summary: str
    extra: str = ""


class Registry(Generic[T]):
    """A typed, lazy table of the ways of one mechanism: `TABLES["dense"]` imports and returns the class."""

    def __init__(self, what: str, entries: dict[str, Entry]) -> None:
        self.what = what
        self.entries = dict(entries)

    def __getitem__(self, name: str) -> type[T]:
        entry = self.entries.get(name)
        if entry is None:
            known = ", ".join(self.entries)
            raise ConfigError(f"unknown {self.what} {name!r}{nearest(name, list(self.entries))}; there are: {known}")
        module, _, attribute = entry.target.partition(":")
        try:
            return cast("type[T]", getattr(importlib.import_module(module), attribute))
        except ModuleNotFoundError as error:
            if entry.extra and error.name and not error.name.startswith("leanrec"):
                raise MissingExtra(entry.extra, error.name, f"the {self.what} {name!r}") from error
            raise

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __len__(self) -> int:
        return len(self.entries)
