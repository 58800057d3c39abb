"""A log that is small enough for every test, and has something to learn in it."""

from __future__ import annotations

import numpy as np
import polars as pl


def tiny_log(users: int = 60, items: int = 40, seed: int = 0) -> pl.DataFrame:
    """Users who walk through neighbouring items: enough for every model to learn something."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 15, users)
    starts = rng.integers(0, items, users)
    item_ids = [f"i{(start + step) % items}" for start, n in zip(starts, lengths, strict=True) for step in range(n)]
    user_ids = [f"u{user}" for user, n in enumerate(lengths) for _ in range(n)]
    times = [1_600_000_000 + 86_400 * step for n in lengths for step in range(n)]
    return pl.DataFrame({"user_id": user_ids, "item_id": item_ids, "timestamp": times})
