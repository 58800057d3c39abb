"""What an audit looks at, and what it says.

A *finding* makes a result wrong or impossible to repeat; a *note* is a property of the protocol that a reader of the
result should know. Every check is one function from a `Log` (and `Lists`) to one of them, or to None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import polars as pl

from leanrec.data.split import TEST, TRAIN

__all__ = ["Audit", "Finding", "Lists", "Log", "finding", "note"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """kind: a fixed name. fault: whether results are wrong because of it. count: rows, users or items concerned.

    examples: a few ids of those concerned.
    """

    kind: str
    fault: bool
    count: int
    message: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        some = f" (for instance {', '.join(self.examples)})" if self.examples else ""
        return f"{self.kind}: {self.message}{some}"


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found. checks: the kinds that were looked for."""

    where: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    checks: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        head = f"{' and '.join(self.where)}: {len(self.checks)} checks, "
        head += f"{len(self.findings)} finding{'s' * (len(self.findings) > 1)}" if self.findings else "nothing found"
        return "\n".join([head, *map(str, self.findings), *(f"note, {one}" for one in self.notes)])


@dataclass(frozen=True, kw_only=True)
class Log:
    """Events. frame: `user`, `item` (text), `row`; and where known `time` (Unix seconds), `split` (uint8 labels).

    split: the protocol's text, "column" for labels from elsewhere, "" without any. order: what decides between events
    of the same moment, None when it is the order of the file. repeats: whether seen items may be recommended, None when
    nobody said. described: whether items have attributes, by which a model may know new ones. prepared: a data set of
    ours, whose evaluation leaves out what it must.
    """

    where: str
    frame: pl.DataFrame
    split: str
    order: str | None = None
    repeats: bool | None = None
    described: bool = False
    prepared: bool = False

    @property
    def timed(self) -> bool:
        return "time" in self.frame.columns

    @property
    def train(self) -> pl.DataFrame:
        """All that is known before the test: train, valid and context."""
        return self.frame.filter(pl.col("split") != TEST)

    @property
    def test(self) -> pl.DataFrame:
        return self.frame.filter(pl.col("split") == TEST)

    def part(self, label: int) -> pl.DataFrame:
        return self.frame.filter(pl.col("split") == label)

    @property
    def key(self) -> list[str]:
        """What makes two rows the same event."""
        return ["user", "item", "time"] if self.timed else ["user", "item"]

    def by_time(self) -> bool:
        """Whether the split is one moment for all users: as its protocol says, or as its labels look."""
        if self.split != "column" or not self.timed:
            return self.split.startswith("time")
        start = self.test["time"].min()
        training = self.part(TRAIN)["time"]
        late = int((training >= start).sum()) if start is not None else 0
        return bool(len(training)) and late <= _FEW * len(training)

    def never_repeats(self) -> bool:
        """Whether seen items may not be recommended: as the protocol says, or as nobody repeats while training."""
        if self.repeats is not None:
            return not self.repeats
        training = self.part(TRAIN)
        return len(training) > 0 and not training.select("user", "item").is_duplicated().any()


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Answers. frame: `user`, `item` (text), `row`, `place` (1, 2, ... in order), `rank`, `score` where given."""

    where: str
    frame: pl.DataFrame
    k: int | None = None


_FEW = 0.05


def finding(kind: str, message: str, concerned: pl.Series | Sequence[str], count: int | None = None) -> Finding | None:
    """A fault, or None when nothing is concerned."""
    return _said(kind, message, concerned, count, fault=True)


def note(kind: str, message: str, concerned: pl.Series | Sequence[str], count: int | None = None) -> Finding | None:
    """The same as a note."""
    return _said(kind, message, concerned, count, fault=False)


def _said(
    kind: str, message: str, concerned: pl.Series | Sequence[str], count: int | None, *, fault: bool
) -> Finding | None:
    number = len(concerned) if count is None else count
    if not number:
        return None
    examples = tuple(str(one) for one in list(dict.fromkeys(concerned))[:3])
    return Finding(kind=kind, fault=fault, count=number, message=message.format(n=f"{number:,}"), examples=examples)
