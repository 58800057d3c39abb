"""Coded queries against their NumPy reference."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.queries import coded_queries, coded_queries_reference
from tests.kernels.test_scan import rows


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_coded_queries_equal_the_reference(seed: int) -> None:
    queries_BD = rows(seed)
    dims = queries_BD.shape[1] + seed % 5
    coded, facts = coded_queries(queries_BD, dims, 0.3, 0.01)
    expected, expected_facts = coded_queries_reference(queries_BD, dims, 0.3, 0.01)
    np.testing.assert_array_equal(coded, expected)
    np.testing.assert_allclose(facts, expected_facts, rtol=1e-12, atol=0)
    assert np.abs(coded).max() <= 127
