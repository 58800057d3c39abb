"""Calibration against scikit-learn, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from leanrec.evaluation.binary import auc, calibration_error, log_loss
from leanrec.runtime.calibration import WAYS, Calibrator, fit_calibrator, pooled


def world(count: int = 4000, *, scale: float = 2.5, bias: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are too sure of themselves and too high."""
    rng = np.random.default_rng(0)
    logit = rng.normal(size=count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.uint8)
    return (scale * logit + bias).astype(np.float32), labels


def test_platt_is_logistic_regression_on_the_score():
    raw, labels = world()
    found = fit_calibrator("platt", raw, labels)
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(raw[:, None].astype(np.float64), labels)
    np.testing.assert_allclose([found.scale, found.bias], [oracle.coef_[0, 0], oracle.intercept_[0]], rtol=1e-4)
    np.testing.assert_allclose(found(raw), oracle.predict_proba(raw[:, None].astype(np.float64))[:, 1], atol=1e-5)


def test_isotonic_pools_as_scikit_learn_does():
    raw, labels = world(500)
    raw = np.round(raw, 1).astype(np.float64)  # ties
    x, y = pooled(raw, labels.astype(np.float64))
    oracle = IsotonicRegression().fit_transform(raw, labels)
    assert (np.diff(x) > 0).all() and (np.diff(y) > 0).all()
    means = y[np.abs(oracle[:, None] - y).argmin(axis=1)]
    np.testing.assert_allclose(means, oracle, atol=1e-12)


@pytest.mark.parametrize("way", ["platt", "isotonic", "auto"])
def test_what_is_said_comes_true(way):
    raw, labels = world(20_000)
    half = len(raw) // 2
    found = fit_calibrator(way, raw[:half], labels[:half])
    before, after = Calibrator()(raw[half:]), found(raw[half:])
    assert calibration_error(labels[half:], after) < 0.02 < calibration_error(labels[half:], before)
    assert log_loss(labels[half:], after) < log_loss(labels[half:], before)


def test_temperature_keeps_the_middle_and_the_order():
    raw, labels = world(bias=0.0)
    found = fit_calibrator("temperature", raw, labels)
    assert found(np.array([0.0])) == 0.5
    assert abs(found.scale - 1 / 2.5) < 0.05
    assert auc(labels, found(raw)) == auc(labels, raw)


def test_the_simplest_way_that_is_as_good_is_chosen():
    raw, labels = world(scale=1.0, bias=0.0)
    assert fit_calibrator("auto", raw, labels).way == "none"
    assert fit_calibrator("auto", *world(bias=0.0)).way == "temperature"
    assert fit_calibrator("auto", *world()).way == "platt"


def test_sampled_negatives_are_made_up_for():
    """He et al. 2014, section 6.3: p = q / (q + (1 - q) / w)."""
    q = np.linspace(0.01, 0.99, 50)
    rate = 0.1
    shifted = Calibrator(shift=float(np.log(rate)))(np.log(q / (1 - q)))
    np.testing.assert_allclose(shifted, q / (q + (1 - q) / rate), rtol=1e-5)


def test_a_regression_is_cut_to_probabilities():
    assert Calibrator(link="identity")(np.array([-0.5, 0.25, 1.5])).tolist() == [0.0, 0.25, 1.0]


def test_too_few_labels_teach_nothing():
    assert fit_calibrator("platt", np.arange(30.0), np.arange(30) == 29).way == "none"


@pytest.mark.parametrize("way", WAYS)
def test_stored_and_loaded_is_equal(way):
    raw, labels = world()
    found = fit_calibrator(way, raw, labels, shift=-0.3)
    again = Calibrator.load(found.config(), found.tensors())
    assert np.array_equal(found(raw), again(raw))


@pytest.mark.parametrize("broken", [{"way": "magic"}, {"link": "x"}, {"scale": float("nan")}, {"way": "isotonic"}])
def test_a_broken_calibration_is_refused(broken):
    with pytest.raises(ValueError):
        Calibrator.load({**Calibrator().config(), **broken}, {})
