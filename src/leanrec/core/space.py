"""What a search may try for one setting: a range of numbers, or a few values."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from leanrec.core.errors import ConfigError

__all__ = ["Choice", "Dimension", "Range", "parse_dimension"]

_LOG_FROM = 10.0


@dataclass(frozen=True, slots=True)
class Range:
    """All numbers from `low` to `high`, whole ones when both ends are; `log`: evenly over their orders of magnitude."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these."""

    values: tuple[int | float | str | bool, ...]


Dimension = Range | Choice


def parse_dimension(text: str) -> tuple[str, Dimension]:
    """`"lr=1e-4..1e-2"` or `"dim=64,128"` as key and dimension; a range over at least a factor of 10 is logarithmic."""
    key, equals, right = text.partition("=")
    ends = right.split("..")
    if equals and key.strip() and right.strip():
        if len(ends) == 1:
            return key.strip(), Choice(tuple(_value(part) for part in right.split(",")))
        match [_value(end) for end in ends]:
            case [int() | float() as low, int() | float() as high] if low < high:
                return key.strip(), Range(low, high, log=low > 0 and high / low >= _LOG_FROM)
    raise ConfigError(f"--search {text!r} says no values: write for instance lr=1e-4..1e-2 or dim=64,128")


def _value(text: str) -> int | float | str | bool:
    try:
        found = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
    return found if isinstance(found, int | float | bool) else str(found)
