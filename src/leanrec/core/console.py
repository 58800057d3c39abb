"""Messages and progress for a person, always on standard error; standard output is for results."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Progress", "format_table", "muted", "say", "step"]

_muted: ContextVar[bool] = ContextVar("muted", default=False)


def say(message: str) -> None:
    """One line for the person at the terminal."""
    if not _muted.get():
        print(message, file=sys.stderr, flush=True)


@contextmanager
def muted() -> Iterator[None]:
    """No messages and no progress of what is done meanwhile: it is one of many, and the caller says what came of it."""
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Name a step, and say how long it took."""
    start = time.perf_counter()
    say(f"{name} ...")
    yield
    say(f"{name}: {time.perf_counter() - start:.1f} s")


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, text: Collection[str | int] = (0,)) -> str:
    """Columns aligned under their headers, numbers to the right. text: the columns, by place or header, to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]
    left = [place in text or header in text for place, header in enumerate(headers)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            c.ljust(width) if is_text else c.rjust(width) for c, width, is_text in zip(cells, widths, left, strict=True)
        ).rstrip()

    return "\n".join([line(headers), "  ".join("-" * width for width in widths), *map(line, rows)])


class Progress:
    """A counter of long work: rewrites one line on a terminal, prints a line every `every` seconds elsewhere."""

    def __init__(self, name: str, total: int | None = None, *, every: float = 10.0) -> None:
        self.name, self.total = name, total
        self.done = 0
        self._tty = sys.stderr.isatty()
        self._every = 0.1 if self._tty else every
        self._start = self._last = time.perf_counter()

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        now = time.perf_counter()
        if _muted.get() or now - self._last < self._every:
            return
        self._last = now
        rate = self.done / max(now - self._start, 1e-9)
        share = f"{100 * self.done / self.total:5.1f} %" if self.total else f"{self.done:,}"
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate > 0 else ""
        line = f"{self.name}: {share}{left} {note}".rstrip()
        print(f"\r\033[K{line}" if self._tty else line, end="" if self._tty else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._tty and not _muted.get():
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
