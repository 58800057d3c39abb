"""Every kind of table under a real fit; the one on disk, interrupted and resumed, gives what the dense one gives."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanrec.core.nouns import Request
from leanrec.data.dataset import Dataset
from leanrec.models import MODELS
from leanrec.models.base import FitOptions
from leanrec.nn.tables import TABLES
from leanrec.runtime.recommender import Recommender
from leanrec.training import task
from tests.models.worlds import shop

SETTINGS: dict[str, Any] = {
    "dim": 16, "layers": 1, "heads": 2, "epochs": 3, "patience": 3, "negatives": 16, "batch_tokens": 128, "ema": 0.0,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "bounded": {"slots": 60}, "hashed": {"buckets": 30}, "quotient-remainder": {"remainders": 8},
    "robe": {"values": 300, "piece": 4}, "tensor-train": {"rank": 4, "radix": 4}, "product-quantised": {"splits": 4},
    "mapped": {"memory": 30 * 16 * 3 * 4},
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shop()


def fit(data: Dataset, table: str, **options: Any) -> Recommender:
    settings = {**SETTINGS, "table": table, "table_options": OPTIONS.get(table, {})}
    return MODELS["sasrec"](**settings).fit_with(data, FitOptions(seed=3, **options))


def items(recommender: Recommender) -> np.ndarray:
    return np.array(recommender.source.index.items_ND)  # type: ignore[attr-defined]


@pytest.mark.parametrize("table", [name for name in TABLES if name != "sharded"])
def test_every_kind_of_table_trains_a_model_that_answers(data: Dataset, table: str) -> None:
    recommender = fit(data, table)
    assert np.isfinite(items(recommender)).all()
    (ranking,) = recommender.answer([Request(history=["item0", "item2"], k=5)])
    assert len(ranking.item_ids) == 5


def test_the_table_on_disk_ends_with_the_rows_of_the_dense_one(data: Dataset, tmp_path: Path) -> None:
    dense = items(fit(data, "dense", refit=True))
    np.testing.assert_array_equal(items(fit(data, "mapped", refit=True, run=tmp_path)), dense)
    assert len(list((tmp_path / "checkpoints").glob("rows-*.bin"))) <= 2


def test_an_interrupted_run_goes_on_from_its_file(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = items(fit(data, "dense"))
    step, taken = task.NextItem.step, 0

    def interrupted(self: Any, batch: Any) -> float:
        nonlocal taken
        taken += 1
        if taken == 8:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(task.NextItem, "step", interrupted)
    with suppress(KeyboardInterrupt):
        fit(data, "mapped", run=tmp_path, save_every=0.0)
    assert taken == 8
    monkeypatch.undo()
    gc.collect()  # the interrupted table lets go of its file, as the end of its process would
    np.testing.assert_array_equal(items(fit(data, "mapped", run=tmp_path, resume=True)), dense)
