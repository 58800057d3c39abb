"""Metrics of probabilities and ratings against scikit-learn, and against rows repeated as often as they weigh."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from leanrec.core.errors import InputError
from leanrec.evaluation.binary import (
    BINARY,
    auc,
    average_precision,
    binary_metrics,
    brier,
    calibration_error,
    confusion,
    log_loss,
    pr_curve,
    reliability,
    roc_curve,
)
from leanrec.evaluation.ratings import RATINGS, mae, rating_metrics, rmse


def predictions(seed, rows=400, levels=None):
    """Labels, probabilities and whole weights; few levels make many ties."""
    rng = np.random.default_rng(seed)
    p = rng.random(rows) if levels is None else rng.integers(0, levels + 1, rows) / levels
    labels = (rng.random(rows) < 0.2 + 0.5 * p).astype(np.int8)
    labels[:2] = 0, 1
    return labels, p, rng.integers(0, 4, rows)


@pytest.mark.parametrize("levels", [None, 1, 5, 40])
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_equal_scikit_learn(levels, weighted):
    labels, p, weights = predictions(levels or 0, levels=levels)
    w = weights if weighted else None
    assert auc(labels, p, w) == pytest.approx(oracle.roc_auc_score(labels, p, sample_weight=w), abs=1e-12)
    assert average_precision(labels, p, w) == pytest.approx(
        oracle.average_precision_score(labels, p, sample_weight=w), abs=1e-12
    )
    assert log_loss(labels, p, w) == pytest.approx(oracle.log_loss(labels, p, sample_weight=w), rel=1e-9)
    assert brier(labels, p, w) == pytest.approx(oracle.brier_score_loss(labels, p, sample_weight=w), abs=1e-12)
    for threshold in (0.2, 0.5, 0.9):
        found, said = confusion(labels, p, w, threshold=threshold), p >= threshold
        assert found.accuracy == pytest.approx(oracle.accuracy_score(labels, said, sample_weight=w))
        for name in ("precision", "recall", "f1"):
            expected = getattr(oracle, f"{name}_score")(labels, said, sample_weight=w, zero_division=0)
            assert getattr(found, name) == pytest.approx(expected)


@pytest.mark.parametrize("levels", [None, 7])
def test_curves_equal_scikit_learn(levels):
    labels, p, _ = predictions(3, levels=levels)
    x, y, thresholds = oracle.roc_curve(labels, p, drop_intermediate=False)
    curve = roc_curve(labels, p)
    np.testing.assert_allclose(curve.x, x)
    np.testing.assert_allclose(curve.y, y)
    np.testing.assert_allclose(curve.thresholds, thresholds)
    precision, recall, _ = oracle.precision_recall_curve(labels, p)
    curve = pr_curve(labels, p)
    np.testing.assert_allclose(curve.x, recall[::-1])
    np.testing.assert_allclose(curve.y, precision[::-1])


@pytest.mark.parametrize(("by", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_reliability_equals_scikit_learn(by, strategy):
    labels, p, _ = predictions(5, rows=402)  # no quantile falls on a row, where rounding would decide its bin
    came, said = calibration_curve(labels, p, n_bins=15, strategy=strategy)
    found = reliability(labels, p, by=by)
    np.testing.assert_allclose(found.said, said)
    np.testing.assert_allclose(found.came, came)
    assert found.count.sum() == len(labels)
    expected = (found.count * np.abs(said - came)).sum() / len(labels)
    assert calibration_error(labels, p, by=by) == pytest.approx(expected)


def test_calibration_error_by_hand():
    """Two bins: said .25 and came 0, said .75 and came 1/2."""
    assert calibration_error(np.array([0, 0, 0, 1]), np.array([0.25, 0.25, 0.75, 0.75]), bins=2) == pytest.approx(0.25)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    labels, scores = np.array([y for y, _ in rows]).astype(int), np.array([s for _, s in rows])
    yes, no = scores[labels == 1], scores[labels == 0]
    if not len(yes) or not len(no):
        assert np.isnan(auc(labels, scores))
        return
    pairs = (yes[:, None] > no[None]).mean() + (yes[:, None] == no[None]).mean() / 2
    assert auc(labels, scores) == pytest.approx(pairs, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in BINARY if name != "ece_mass"])
def test_a_weight_is_a_repetition(name):
    labels, p, weights = predictions(9, levels=20)
    rows = np.repeat(np.arange(len(p)), weights)
    assert BINARY[name](labels, p, weights) == pytest.approx(BINARY[name](labels[rows], p[rows], None))


@pytest.mark.parametrize("name", list(RATINGS))
def test_ratings_equal_scikit_learn(name):
    rng = np.random.default_rng(1)
    given_T, said_T, weights = rng.integers(1, 6, 300), rng.normal(3, 1, 300), rng.integers(0, 4, 300)
    theirs = {"rmse": oracle.root_mean_squared_error, "mae": oracle.mean_absolute_error}[name]
    assert RATINGS[name](given_T, said_T, weights) == pytest.approx(theirs(given_T, said_T, sample_weight=weights))
    assert rating_metrics(given_T, said_T) == {"rmse": rmse(given_T, said_T), "mae": mae(given_T, said_T)}


def test_all_metrics_by_name_with_a_threshold():
    labels, p, _ = predictions(2)
    found = binary_metrics(labels, p, threshold=0.3)
    assert list(found) == list(BINARY)
    assert found["recall"] == confusion(labels, p, threshold=0.3).recall > BINARY["recall"](labels, p, None)


@pytest.mark.parametrize(
    ("labels", "p", "message"),
    [
        ([0, 2], [0.1, 0.2], "labels must be 0 or 1"),
        ([0, 1], [0.1, float("nan")], "not finite"),
        ([0, 1], [0.1, 3.0], "no probabilities"),
        ([], [], "nothing to judge"),
        ([0, 1], [0.1], "differ in number"),
    ],
)
def test_what_cannot_be_judged_is_refused(labels, p, message):
    with pytest.raises(InputError, match=message):
        binary_metrics(np.array(labels), np.array(p))


def test_ratings_that_are_not_numbers_are_refused():
    with pytest.raises(InputError, match="not finite"):
        rating_metrics(np.array([1.0]), np.array([np.inf]))
    with pytest.raises(InputError, match="do not pair"):
        rating_metrics(np.array([]), np.array([]))
