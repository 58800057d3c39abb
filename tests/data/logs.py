"""Small logs and an independent preparation of them in plain Python."""

from __future__ import annotations

from hypothesis import strategies as st

ROW = st.tuples(st.integers(0, 6), st.integers(0, 9), st.integers(0, 20))
LOGS = st.lists(ROW, min_size=1, max_size=80)


def frame(log, *, text=False):
    import polars as pl

    name = (lambda prefix, number: f"{prefix}{number}") if text else (lambda _, number: number)
    return pl.DataFrame(
        {
            "user_id": [name("u", u) for u, _, _ in log],
            "item_id": [name("i", i) for _, i, _ in log],
            "timestamp": [1_000_000 + t for _, _, t in log],
        }
    )


def histories(log):
    """user -> [(time, item)] oldest first, ties by position."""
    result: dict[int, list[tuple[int, int]]] = {}
    for user, item, time in sorted(log, key=lambda row: row[2]):  # stable
        result.setdefault(user, []).append((time, item))
    return result


def decoded(data, jagged, rows=None):
    """user id -> item ids of a Jagged of the data set."""
    users = data.users.ids(rows)
    return {user: data.items.ids(row) for user, row in zip(users, jagged, strict=True)}
