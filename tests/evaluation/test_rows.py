"""Predictions of single events: what is asked, against loops; intervals over users; pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.data.prepare import prepare
from leanrec.evaluation.binary import binary_metrics
from leanrec.evaluation.ratings import rating_metrics
from leanrec.evaluation.rows import RowResults, judge_rows, predict, rows_of
from leanrec.models import MODELS
from leanrec.models.popular import Popular


@pytest.fixture(scope="module")
def data():
    """60 users rate 20 items; odd users like odd items."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        for step, item in enumerate(rng.choice(20, 10, replace=False)):
            liked = 2.5 * ((user + item) % 2) + rng.normal(2, 0.5)
            rows.append((f"u{user}", f"i{item}", 1.6e9 + 86_400 * step, float(np.clip(np.rint(liked), 1, 5))))
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row")
    return prepare(events, split="ratio:0.6,0.2,0.2", repeats=False, name="ratings")


def test_rows_are_the_held_out_events_with_what_came_before(data):
    rows = rows_of(data, "rating")
    events = data.interactions
    at = np.flatnonzero(events.split == 2)
    assert rows.truth_T.tolist() == events.values[at].tolist()
    assert rows.items_T.tolist() == events.items.values[at].tolist()
    for row, event in enumerate(at):
        assert (
            rows.histories[row].tolist()
            == events.items.values[events.items.offsets[rows.users_T[row]] : event].tolist()
        )
    labels = rows_of(data, "ctr", label="value>=4")
    assert labels.truth_T.tolist() == (rows.truth_T >= 4).tolist()


def test_metrics_are_those_of_the_predictions(data):
    model = MODELS["logistic"](label="value>=4").fit(data)
    rows = rows_of(data, "ctr", label="value>=4")
    found = judge_rows({"logistic": model}, data, "ctr")
    assert [row.model for row in found] == ["logistic", "mean", "item mean"]
    assert found["logistic"].metrics == pytest.approx(binary_metrics(rows.truth_T, predict(model, data, rows)))
    plain = found.to_dict()
    assert plain["results"][0]["rows"] == len(rows)
    assert set(plain["curves"]["logistic"]) == {"roc", "pr", "reliability"}
    assert "log_loss" in str(found)


def test_ratings_against_the_means(data):
    model = MODELS["mf"](factors=2).fit(data)
    found = judge_rows({"mf": model}, data, "rating")
    rows = rows_of(data, "rating")
    train = data.train_values().values
    assert found["mean"].metrics == pytest.approx(
        rating_metrics(rows.truth_T, np.full(len(rows), train.mean())), rel=1e-6
    )
    assert found["mf"].metrics["rmse"] < found["mean"].metrics["rmse"]
    pair = next(p for p in found.paired("mean") if p.model == "mf" and p.metric == "rmse")
    assert pair.difference < 0
    assert pair.verdict == "better"
    assert pair.p_holm >= pair.p


def test_users_that_a_model_knows_nothing_of_count_as_the_mean(data):
    """A matrix factorisation trained on other users, asked about events without a history."""
    model = MODELS["mf"](factors=2).fit(data)
    strangers = replace(data, users=Vocabulary([f"new{n}" for n in range(60)]), fingerprint="")
    rows = rows_of(strangers, "rating")
    first = replace(rows, histories=Jagged.empty(len(rows)))
    assert np.isneginf(predict(model, strangers, first)).all()
    fresh = replace(strangers, interactions=_only_test(strangers.interactions))
    found = judge_rows({"mf": model}, fresh, "rating")
    assert "60 rows" in found.notes["mf"]
    assert "60 rows" in str(found)
    assert found.to_dict()["results"][0]["notes"]


def _only_test(events):
    """Each user's first event is the test, so that nothing is known before it; the others train."""
    split = np.zeros(len(events), np.uint8)
    split[events.items.offsets[:-1]] = 2
    return replace(events, split=split)


def test_intervals_are_over_users():
    """Ten rows a user that say the same are one row a user: the interval must not shrink."""
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 2, 80).astype(float), rng.random(80)
    once = RowResults("ctr", "test", truth, np.arange(80), {"a": said})
    copied = RowResults("ctr", "test", np.repeat(truth, 10), np.repeat(np.arange(80), 10), {"a": np.repeat(said, 10)})
    alone = RowResults("ctr", "test", np.repeat(truth, 10), np.arange(800), {"a": np.repeat(said, 10)})
    assert copied.interval("a", "auc") == pytest.approx(once.interval("a", "auc"))
    low, high = once.interval("a", "auc")
    assert np.subtract(*alone.interval("a", "auc")) > 0.6 * (low - high)
    assert low < once["a"].metrics["auc"] < high


def test_a_model_against_itself_is_undecided():
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 2, 200).astype(float), rng.random(200)
    found = RowResults("ctr", "test", truth, np.arange(200), {"a": said, "b": said})
    for pair in found.paired():
        assert (pair.difference, pair.verdict, pair.p) == (0.0, "undecided", 1.0)


def test_what_cannot_be_judged_is_refused(data):
    bare = prepare(
        pl.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3], "timestamp": [1.0, 2.0, 3.0]}), name="bare"
    )
    with pytest.raises(InputError, match="has no values to label by"):
        rows_of(bare, "rating")
    with pytest.raises(InputError, match="no probabilities"):
        judge_rows({"popular": Popular().fit(data)}, data, "ctr", label="value>=4")
