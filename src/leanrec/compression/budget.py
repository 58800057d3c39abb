"""What a lean bundle must keep, and what an answer costs: a Budget and a Price, and how people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from leanrec.core.config import Config, build, load_toml
from leanrec.core.errors import ConfigError
from leanrec.core.machine import human
from leanrec.evaluation.metrics import parse_metric

__all__ = ["DEFAULT_LOSS", "Budget", "Price", "parse_budget", "read_price"]

DEFAULT_LOSS = 0.01
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_NUMBER = r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)"


class Budget(Config, frozen=True, kw_only=True):
    """What must hold of the lean bundle; what is None is not asked. Something above zero each, or a ConfigError.

    max_quality_loss: share of the metric's mean that may be lost, certified on users that nothing was tuned on.
    p99_ms: 99 of 100 answers come within so many milliseconds. memory: bytes of the process (PSS). size: bytes of the
    bundle. cost: of a million answers, in the currency of the `Price`.
    """

    max_quality_loss: float = DEFAULT_LOSS
    metric: str = "ndcg@10"
    p99_ms: float | None = None
    memory: int | None = None
    size: int | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        if not parse_metric(self.metric).is_per_user:
            raise ConfigError(f"{self.metric} is one number for all users: promise a per-user metric such as ndcg@10")
        if not 0 < self.max_quality_loss < 1:
            raise ConfigError(
                f"a quality loss of {self.max_quality_loss:g} cannot be promised: write a share of the metric above 0 "
                "and below 1, for instance 0.01 (1%)"
            )
        for name, remedy in (("p99_ms", "5ms"), ("memory", "64MB"), ("size", "16MB"), ("cost", "0.5")):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"a budget of {value:g} for {name} cannot be kept: write for instance {remedy}")

    def __str__(self) -> str:
        said = [f"{self.metric} loses at most {100 * self.max_quality_loss:g} %"]
        said += [] if self.p99_ms is None else [f"p99 at most {self.p99_ms:g} ms"]
        said += [] if self.memory is None else [f"memory at most {human(self.memory)}"]
        said += [] if self.size is None else [f"bundle at most {human(self.size)}"]
        said += [] if self.cost is None else [f"a million answers cost at most {self.cost:g}"]
        return ", ".join(said)


class Price(Config, frozen=True, kw_only=True):
    """What an hour of one core and of one GiB of memory costs. The defaults are about what rented machines cost."""

    core_hour: float = 0.04
    gib_hour: float = 0.005
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name in ("core_hour", "gib_hour"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(
                    f"a price of {getattr(self, name):g} for {name} is none: write a number of at least 0"
                )
        if self.core_hour == self.gib_hour == 0:
            raise ConfigError("core_hour and gib_hour are both 0, so every plan costs the same: state one of them")

    def per_million(self, *, core_seconds: float, seconds: float, memory: float) -> float:
        """Of a million answers that take `core_seconds` of work each, and hold `memory` bytes for `seconds` each."""
        return 1e6 / 3600 * (core_seconds * self.core_hour + seconds * memory / 2**30 * self.gib_hour)


def read_price(path: str | Path | None) -> Price:
    """A TOML file with core_hour, gib_hour and currency; the default price without one."""
    return Price() if path is None else build(Price, load_toml(path), where=str(path))


def parse_budget(given: Mapping[str, str | None]) -> Budget:
    """The command line's words: max_quality_loss="1%", p99="5ms", memory="64MB", size="16MB", cost="0.5", metric.

    A ConfigError names the option, what it says and how it is written.
    """
    values: dict[str, float | str] = {}
    for name, text in given.items():
        if text is None:
            continue
        if name not in _READERS:
            values[name] = text
            continue
        field, read = _READERS[name]
        option = f"--{name.replace('_', '-')}"
        value = read(option, text)
        if value <= 0:
            raise ConfigError(f"{option} {text!r} cannot be kept by anything: write a number above 0")
        values[field] = value
    return Budget(**values)  # type: ignore[arg-type]


def _share(option: str, text: str) -> float:
    number, unit = _parts(option, text, ("", "%"), "1% or 0.01")
    value = number / 100 if unit == "%" else number
    if value >= 1:
        meant = f"{text}%" if unit == "" and number < 100 else "1%"
        raise ConfigError(f"{option} {text!r} is a loss of {100 * value:g} %, all there is: write for instance {meant}")
    return value


def _milliseconds(option: str, text: str) -> float:
    number, unit = _parts(option, text, tuple(_MILLISECONDS), "5ms or 0.2s")
    return number * _MILLISECONDS[unit]


def _bytes(option: str, text: str) -> int:
    number, unit = _parts(option, text, tuple(_BYTES), "64MB or 1.5GiB")
    return int(number * _BYTES[unit])


def _plain(option: str, text: str) -> float:
    return _parts(option, text, ("",), "0.5, in the currency of the price")[0]


def _parts(option: str, text: str, units: tuple[str, ...], example: str) -> tuple[float, str]:
    found = re.fullmatch(rf"\s*{_NUMBER}\s*([A-Za-z%]*)\s*", text)
    if not found or found[2].lower() not in units:
        raise ConfigError(f"{option} {text!r} is not understood: write for instance {example}")
    return float(found[1]), found[2].lower()


_READERS: Mapping[str, tuple[str, Callable[[str, str], float]]] = {
    "max_quality_loss": ("max_quality_loss", _share),
    "p99": ("p99_ms", _milliseconds),
    "memory": ("memory", _bytes),
    "size": ("size", _bytes),
    "cost": ("cost", _plain),
}
