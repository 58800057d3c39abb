"""Labelled rows that are more than memory is to hold: the same model, bit for bit, and a run that can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from leanrec.core.tensors import map_tensors
from leanrec.data import scratch
from leanrec.data.scratch import Scratch
from leanrec.models import MODELS, gbdt, linear, logistic
from leanrec.models.base import FitOptions
from leanrec.models.gbdt import _Columns
from leanrec.models.logistic import Logistic
from leanrec.models.scoring import Learning
from leanrec.runtime.engines.trees import tree_inputs
from leanrec.runtime.recommender import Recommender
from leanrec.training import shuffling
from leanrec.training.clicks import ClickBatch, ClickTask

from .test_ctr import SMALL, rated, rows_of

NETWORK: dict[str, Any] = {**SMALL, "label": "value>=2"}
MODELS_OF_ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "closed": ("linear", {"solver": "closed", "balance": "oversample"}),
    "gradient": ("linear", {"solver": "gradient", "l2": 10.0}),
    "logistic": ("logistic", {"passes": 3, "balance": "undersample"}),
    "trees": ("gbdt", {"trees": 20, "min_rows": 5, "balance": "weights"}),
    "deepfm": ("deepfm", NETWORK),
    "din": ("din", {**NETWORK, "history": 8, "attention": 8, "balance": "undersample"}),
}


def weights(model: Recommender, folder: Path) -> dict[str, np.ndarray]:
    model.save(folder)
    return {
        f"{file.stem}.{n}": a for file in sorted(folder.glob("*.safetensors")) for n, a in map_tensors(file).items()
    }


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and pools of which even small data has many."""
    monkeypatch.setattr(shuffling, "BLOCK", 64)
    for module in (linear, logistic):
        monkeypatch.setattr(module, "_TOGETHER", 100)


@pytest.mark.parametrize("name", MODELS_OF_ROWS)
@pytest.mark.usefixtures("few_at_a_time")
def test_rows_on_disk_make_the_model_that_rows_in_memory_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model, settings = MODELS_OF_ROWS[name]
    made = MODELS[model](**{"label": "value>=2", "shuffle": 256, **settings})
    in_memory = weights(made.fit_with(rated(), FitOptions(seed=3, refit=True)), tmp_path / "a")
    files: list[int] = []
    real = Scratch.file
    monkeypatch.setattr(scratch, "MEMORY", 0)
    monkeypatch.setattr(Scratch, "file", lambda self: files.append(1) or real(self))
    run = FitOptions(seed=3, refit=True, run=tmp_path / "run")
    on_disk = weights(made.fit_with(rated(), run), tmp_path / "b")
    assert len(files) >= 6, "categories and labels of train and valid, and again of train"
    assert same(in_memory, on_disk)
    assert [path.name for path in (tmp_path / "run").iterdir()] in ([], ["checkpoints"])


def test_how_many_rows_are_laid_out_together_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid = rows_of(rated())
    model = Logistic(l2=1.0, passes=2)
    whole = model.learn(train, valid, Learning(0)).engine.table_RE
    closed, gradient = (linear.ridge(train, [3.0], solver)[0] for solver in ("closed", "gradient"))
    for module in (linear, logistic):
        monkeypatch.setattr(module, "_TOGETHER", 100)
    assert np.array_equal(model.learn(train, valid, Learning(0)).engine.table_RE, whole)
    assert np.array_equal(linear.ridge(train, [3.0], "closed")[0], closed)
    np.testing.assert_allclose(linear.ridge(train, [3.0], "gradient")[0], gradient, atol=1e-9)


def test_trees_of_rows_that_lightgbm_asks_for_are_those_of_a_matrix() -> None:
    train, _ = rows_of(rated())
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "seed": 1}
    asked = lightgbm.train(settings, gbdt._dataset(train), 10)
    matrix = lightgbm.Dataset(tree_inputs(train.batch), train.labels_BT[:, 0], categorical_feature=[0, 1, 2, 3, 4])
    assert len(train.batch.layout.categories) == 5
    assert asked.model_to_string() == lightgbm.train(settings, matrix, 10).model_to_string()
    columns = _Columns(train)
    np.testing.assert_array_equal(columns[7], columns[5:9][2])
    np.testing.assert_array_equal(columns[[7, 2]], np.stack([columns[7], columns[2]]))


class Stopped(Exception):
    """What ends a run in this test."""


@pytest.mark.usefixtures("few_at_a_time")
@pytest.mark.parametrize("model", ["deepfm", "multi-task"])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    settings = {**NETWORK, "shuffle": 256, "dropout": 0.2, "batch": 16}
    if model == "multi-task":
        settings |= {"label": None, "labels": {"click": "value>=2", "conversion": "value>=3"}}
    made = MODELS[model](**settings)
    whole = weights(made.fit_with(rated(), FitOptions(seed=5, refit=True, run=tmp_path / "whole")), tmp_path / "a")
    real, steps = ClickTask.step, [0]

    def step(self: ClickTask, batch: ClickBatch) -> float:
        steps[0] += 1
        if steps[0] % 29 == 0:
            raise Stopped
        return real(self, batch)

    monkeypatch.setattr(ClickTask, "step", step)
    stops, fitted = 0, None
    while fitted is None:
        options = FitOptions(seed=5, refit=True, run=tmp_path / "cut", resume=stops > 0, save_every=0.0)
        try:
            fitted = made.fit_with(rated(), options)
        except Stopped:
            stops += 1
    assert stops >= 3
    assert same(weights(fitted, tmp_path / "b"), whole)
