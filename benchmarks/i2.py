"""I2: as I1, 64 queries at a time."""

from __future__ import annotations

from benchmarks.harness import Result
from benchmarks.i1 import compare


def run() -> Result:
    """One batch a round."""
    return compare("I2", batch=64, queries=64)
