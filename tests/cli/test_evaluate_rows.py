"""`leanrec evaluate` for models of clicks: on events of a data set, and on rows as they were logged."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from tests.tiny import tiny_log


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A log of impressions whose clicks depend on one number."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000)
    clicks = (rng.random(2000) < 1 / (1 + np.exp(-2 * x))).astype(int)
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    pl.DataFrame({"x": x, "c": rng.integers(0, 5, 2000).astype(str), "click": clicks}).write_csv(file)
    return file


def test_rows_as_they_were_logged(leanrec, logged, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    done = leanrec("prepare", logged, "--format", "table", "--label", "click", "--out", data)
    assert done.code == 0, done.err
    assert leanrec("train", "logistic", "--data", data, "--out", run).code == 0
    found = leanrec("evaluate", run, "--data", data, "--json")
    assert found.code == 0, found.err
    model, mean = found.json["results"]
    assert (model["task"], mean["model"]) == ("ctr", "mean")
    low, high = model["interval"]["auc"]
    assert 0.6 < low < model["metrics"]["auc"] < high < 1
    assert mean["metrics"]["auc"] == 0.5
    pair = next(one for one in found.json["paired"] if one["metric"] == "log_loss")
    assert pair["verdict"] == "worse"  # the mean, against the model


def test_a_model_of_clicks_is_judged_by_its_label_on_events(leanrec, tmp_path):
    log = tiny_log()
    log = log.with_columns(rating=(pl.int_range(pl.len()) % 5 + 1).cast(pl.Float64))
    log.write_parquet(tmp_path / "log.parquet")
    data, run = tmp_path / "data", tmp_path / "run"
    assert leanrec("prepare", tmp_path / "log.parquet", "--out", data).code == 0
    assert leanrec("train", "logistic", "--data", data, "--out", run, "--set", 'label="value>=4"').code == 0
    found = leanrec("evaluate", run, "--data", data, "--json")
    assert found.code == 0, found.err
    assert [one["model"] for one in found.json["results"]] == [str(run), "mean", "item mean"]
    lists = leanrec("evaluate", run, "--data", data, "--task", "ranking", "--json")
    assert lists.code == 0, lists.err
    assert "ndcg@10" in lists.json["results"][0]["metrics"]
    table = tmp_path / "lists.csv"
    pl.DataFrame({"user_id": ["u0"], "item_id": ["i0"], "rank": [1]}).write_csv(table)
    leanrec("evaluate", table, "--data", data, "--task", "ctr").refused(2, "table of recommendations")
    page = tmp_path / "report.html"
    (tmp_path / "clicks.json").write_text(json.dumps(found.json))
    assert leanrec("report", tmp_path / "clicks.json", "--out", page).code == 0
    assert "Calibration" in page.read_text()
