"""Which arithmetic training uses."""

from __future__ import annotations

from leanrec.core.errors import ConfigError
from leanrec.core.registry import nearest

__all__ = ["PRECISIONS", "use_bfloat16"]

PRECISIONS = ("auto", "float32", "bfloat16")
_PAYS_FROM_DIM = 128
"""Narrower layers spend more on casting than bfloat16 products save (docs/log.md has the figures)."""


def use_bfloat16(precision: str, dim: int) -> bool:
    """Whether to autocast: as asked, or by the processor and the width."""
    if precision not in PRECISIONS:
        raise ConfigError(
            f"precision={precision!r} is not one of {', '.join(PRECISIONS)}{nearest(precision, list(PRECISIONS))}"
        )
    if precision != "auto":
        return precision == "bfloat16"
    return dim >= _PAYS_FROM_DIM and "avx512_bf16" in _cpu_flags()


def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return frozenset(next(line for line in file if line.startswith("flags")).split())
    except (OSError, StopIteration):
        return frozenset()
