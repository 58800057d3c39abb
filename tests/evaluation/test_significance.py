"""p values and their corrections against SciPy, and against the definition on small samples."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from leanrec.evaluation.significance import benjamini_hochberg, holm, p_value


def test_few_users_equal_all_sign_flips():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.4, 1, 10)
    signs = np.array(list(itertools.product([-1, 1], repeat=10)))
    exact = (np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12).mean()
    assert p_value(differences) == pytest.approx(exact, abs=0.02)


def test_many_users_equal_the_t_test():
    differences = np.random.default_rng(0).normal(0.05, 1, 5000)
    assert p_value(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, rel=0.01)


def test_without_a_difference_there_is_nothing_to_be_surprised_of():
    assert p_value(np.zeros(50)) == p_value(np.array([0.3])) == 1.0
    assert p_value(np.full(500, 0.1)) == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_hochberg_equals_scipy(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values), abs=1e-12)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_stricter_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    assert all(b <= a + 1e-12 for a, b in zip(adjusted, benjamini_hochberg(p_values), strict=True))
