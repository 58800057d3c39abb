"""A click log on the command line: prepared, explained, learnt from, asked."""

from __future__ import annotations

import json

from tests.data.clicklogs import write_avazu, write_criteo


def test_prepare_explains_every_feature(leanrec, tmp_path):
    write_avazu(tmp_path / "train.csv", 500)
    outcome = leanrec("prepare", tmp_path / "train.csv", "--format", "avazu", "--out", tmp_path / "data", "--json")
    assert outcome.code == 0, outcome.err
    report = outcome.json["report"]
    assert report["rows_read"] == 500 and report["splits"] == {"train": 400, "valid": 50, "test": 50}
    features = {feature["name"]: feature for feature in report["features"]}
    assert features["site_id"].keys() == {"name", "side", "kind", "why", "missing", "distinct", "drift"}
    assert features["timestamp"]["kind"] == "time" and features["C14"]["kind"] == "category"


def test_a_model_of_clicks_learns_from_a_log_and_is_asked_in_a_context(leanrec, tmp_path):
    import leanrec as lr
    from leanrec.core.nouns import Request

    write_criteo(tmp_path / "train.txt", 1500)
    assert leanrec("prepare", tmp_path / "train.txt", "--format", "criteo", "--out", tmp_path / "data").code == 0
    outcome = leanrec("train", "logistic", "--data", tmp_path / "data", "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    assert json.dumps(outcome.json["card"]["validation"]) and outcome.json["card"]["validation"]["auc"] > 0.6
    recommender = lr.load(tmp_path / "run")
    context = {"I1": 80, "I2": "70", "I3": None, "C1": "never seen", "C2": [1, 2], "unheard of": 3}
    (likely,), (unlikely,) = recommender.score(
        [Request(history=[], context=context), Request(history=[], context={"I1": 0, "I2": 0})], [["impression"]] * 2
    )
    assert 0 <= unlikely < likely <= 1


def test_other_models_are_refused(leanrec, tmp_path):
    write_criteo(tmp_path / "train.txt", 100)
    leanrec("prepare", tmp_path / "train.txt", "--format", "criteo", "--out", tmp_path / "data")
    leanrec("train", "ease", "--data", tmp_path / "data", "--out", tmp_path / "run").refused(2, "ease", "labelled rows")
    leanrec("evaluate", tmp_path / "run", "--data", tmp_path / "data").refused(2)
