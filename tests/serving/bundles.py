"""A small recommender of real parts for the tests of the server: items are neighbours of the next ones on a ring."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leanrec.core.ids import Id, Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.events.history import FolderHistory
from leanrec.runtime.bundle import history_folder
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.neighbours import NeighbourSource
from leanrec.runtime.sources.popular import PopularSource

SIZE = 60
USERS = {"u0": [0, 1], "u1": [5], "ünï/cödé": [7, 8, 9]}


def ring(*, numeric: bool = False, attributes: bool = True) -> Recommender:
    """Items i0..i59 (or 1000..1059): item n is like n + 1 (similarity 3), n + 2 (2) and n + 3 (1)."""
    neighbours = Jagged.from_rows([[(n + step) % SIZE for step in (1, 2, 3)] for n in range(SIZE)])
    similarities = np.tile(np.array([3, 2, 1], np.float32), SIZE)
    selves = np.full(SIZE, 4, np.float32)
    source = NeighbourSource("ring", neighbours, similarities, selves, window=20, half_life=None)
    popular = PopularSource("popular", np.linspace(1, 0, SIZE, dtype=np.float32))
    ids: list[Id] = [1000 + n for n in range(SIZE)] if numeric else [f"i{n}" for n in range(SIZE)]
    options = {}
    if attributes:
        import polars as pl

        from leanrec.features.items import ItemAttributes

        rows = {"item_id": ids, "title": [f"Title {n}" for n in range(SIZE)], "colour": ["red", "blue"] * (SIZE // 2)}
        options["attributes"] = ItemAttributes.from_frame(pl.DataFrame(rows))
    return Recommender(source, Vocabulary(ids), repeats=False, fallback=popular, **options)


def save_bundle(folder: Path, *, numeric: bool = False) -> Path:
    """The ring as a bundle, with histories of a few users beside it."""
    recommender = ring(numeric=numeric)
    recommender.save(folder)
    users = Vocabulary([10, 11, 12] if numeric else list(USERS))
    FolderHistory.save(history_folder(folder), users, recommender.items, Jagged.from_rows(USERS.values()))
    return folder
