"""Vocabulary: ids come back as they came in, rows never move."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.core.tensors import serialize

numbers = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=20)
texts = st.lists(st.text(max_size=8), unique=True, max_size=20)
ids = st.one_of(numbers, texts)


@given(ids)
def test_ids_and_rows_round_trip(given_ids):
    vocabulary = Vocabulary(given_ids)
    assert vocabulary.ids() == given_ids
    assert [type(i) for i in vocabulary.ids()] == [type(i) for i in given_ids]
    assert vocabulary.rows(given_ids).tolist() == list(range(len(given_ids)))


@given(ids)
def test_tensors_round_trip(given_ids):
    vocabulary = Vocabulary(given_ids)
    tensors = vocabulary.tensors()
    serialize(tensors)
    assert Vocabulary.from_tensors(tensors) == vocabulary


@given(st.one_of(st.tuples(numbers, numbers), st.tuples(texts, texts)))
def test_growing_keeps_rows(pair):
    old, new = pair
    grown = Vocabulary(old).extended(new)
    assert grown.ids()[: len(old)] == old
    assert set(grown.ids()) == {*old, *new}
    assert (grown.rows(new) >= 0).all()


@given(ids, st.data())
def test_erased_ids_leave_a_tombstone(given_ids, data):
    gone = data.draw(st.lists(st.sampled_from(given_ids), unique=True)) if given_ids else []
    left = Vocabulary(given_ids).without(gone)
    assert len(left) == len(given_ids)
    for row, identity in enumerate(given_ids):
        assert left.row(identity) == (-1 if identity in gone else row)
    assert Vocabulary.from_tensors(left.tensors()) == left


def test_unknown_ids_have_no_row():
    assert Vocabulary(["a"]).rows(["a", "b"]).tolist() == [0, -1]
    assert Vocabulary(np.array([3, 5])).rows(np.array([5, 4])).tolist() == [1, -1]


def test_text_from_outside():
    assert Vocabulary([1, 2]).parse("2") == 2
    assert Vocabulary([1, 2]).parse("x") == "x"
    assert Vocabulary(["1"]).parse("1") == "1"


@pytest.mark.parametrize("wrong", [[1.5], [None], ["a", 1], [True]])
def test_only_whole_numbers_or_text(wrong):
    with pytest.raises(InputError, match="must be text or a whole number"):
        Vocabulary(wrong)


def test_ids_must_differ():
    with pytest.raises(InputError, match="distinct"):
        Vocabulary(["a", "a"]).row("a")
