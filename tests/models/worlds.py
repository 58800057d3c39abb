"""A small shop for model tests: two tastes that hardly mix, repeated purchases, times, categories, late newcomers."""

from __future__ import annotations

import numpy as np
import polars as pl

from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare

ITEMS = 40
USERS = 80
NEWCOMERS = ("new0", "new1")


def shop(*, times: bool = True, repeats: bool | None = False, split: str = "leave-one-out") -> Dataset:
    """80 users, 40 items of two categories and two items that appear only as somebody's last event."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, ITEMS // 2 + 1)
    rows = []
    for user in range(USERS):
        taste = user % 2
        length = int(rng.integers(4, 12))
        bought = rng.choice(ITEMS // 2, length, p=weights / weights.sum()) * 2 + taste
        ids = [f"item{b}" for b in bought]
        if user < len(NEWCOMERS):
            ids.append(NEWCOMERS[user])
        rows += [(f"user{user}", item, 1.6e9 + 86_400 * step + user) for step, item in enumerate(ids)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    names = [f"item{i}" for i in range(ITEMS)] + list(NEWCOMERS)
    items = pl.DataFrame(
        {
            "item_id": names,
            "title": [name.title() for name in names],
            "category": ["even" if i % 2 == 0 else "odd" for i in range(len(names))],
        }
    )
    if not times:
        events = events.drop("timestamp")
        split = "random:0.8,0.1,0.1"
    return prepare(events, items=items, split=split, repeats=repeats, name="shop")
