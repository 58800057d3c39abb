"""Operations on rows of items, against the plain ones on sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.jagged import Jagged
from leanrec.data.cases import distinct, without

ROW = st.lists(st.integers(0, 6), max_size=8)


@given(st.lists(st.tuples(ROW, ROW), min_size=1, max_size=8))
def test_what_stands_in_the_same_row_is_taken_out(rows):
    """Repeated values too, in the order of before."""
    found = without(Jagged.from_rows([one for one, _ in rows]), Jagged.from_rows([other for _, other in rows]), 7)
    assert np.array_equal(found.lengths, [sum(value not in other for value in one) for one, other in rows])
    assert found.values.tolist() == [value for one, other in rows for value in one if value not in other]


@given(st.lists(ROW, min_size=1, max_size=8))
def test_each_value_of_a_row_stands_where_it_stood_first(rows):
    found = distinct(Jagged.from_rows(rows))
    assert found.values.tolist() == [value for row in rows for value in dict.fromkeys(row)]
    assert np.array_equal(found.lengths, [len(set(row)) for row in rows])
