"""A raw column as features read it: frames and requests alike, and never an error."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.features.series import Column
from tests.features.frames import COLUMNS, VALUES


@settings(deadline=None, max_examples=50)
@given(COLUMNS)
def test_any_column_is_read_as_anything(series):
    column = Column(series)
    numbers, moments = column.numbers(), column.moments()
    assert len(numbers) == len(moments) == len(column)
    assert (np.isnan(numbers) | (np.abs(numbers) <= 1e30)).all()
    hashes, present = column.hashes()
    assert hashes.dtype == np.uint64 and len(hashes) == len(present) == len(column)
    assert len(column.lists("|")) == len(column.rows()) == len(column)


@settings(deadline=None, max_examples=50)
@given(st.lists(VALUES, max_size=6))
def test_a_value_of_a_request_means_in_a_batch_what_it_means_alone(values):
    together = Column.of_values(values)
    hashes, present = together.hashes()
    for row, value in enumerate(values):
        alone = Column.of_values([value])
        assert alone.hashes()[1][0] == present[row]
        assert not present[row] or alone.hashes()[0][0] == hashes[row]
        np.testing.assert_array_equal(alone.lists("|")[0], together.lists("|")[row])
        np.testing.assert_array_equal(alone.numbers()[0], together.numbers()[row])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 5, None, -3], pl.Int64),
        ([2**60 + 1, 7], pl.Int64),
        ([1.5, 2.0, None, float("nan"), float("inf")], pl.Float64),
        (["a", None, "", "ü"], pl.String),
        ([True, None, False], pl.Boolean),
        ([["a", "b"], None, []], pl.List(pl.String)),
    ],
)
def test_a_request_is_read_as_a_frame_is(values, dtype):
    frame, request = Column(pl.Series(values, dtype=dtype)), Column.of_values(values)
    np.testing.assert_array_equal(frame.numbers(), request.numbers())
    for one, other in zip(frame.hashes(), request.hashes(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(frame.lists("|").values, request.lists("|").values)
    np.testing.assert_array_equal(frame.moments(), request.moments())


def same_category(one, other):
    a, b = Column(pl.Series([one])), Column(pl.Series([other]))
    return a.hashes()[1][0] and b.hashes()[1][0] and a.hashes()[0][0] == b.hashes()[0][0]


def test_a_whole_number_is_one_category_however_it_is_written():
    assert same_category(5, 5.0) and same_category(5, "5") and same_category("5", 5.0)
    assert not same_category(5, 5.5) and not same_category(5, "05")
    assert not same_category("a", None)


def test_numbers_from_text_and_none_from_what_spells_none():
    numbers = Column(pl.Series(["3", " 4.5 ", "x", None, "1e99", "nan"])).numbers()
    np.testing.assert_array_equal(numbers, [3, 4.5, np.nan, np.nan, 1e30, np.nan])


def test_moments_in_any_unit_or_form_are_seconds():
    at = dt.datetime(2020, 1, 2, 3, 0, tzinfo=dt.UTC)
    seconds = at.timestamp()
    for unit in (1, 1e3, 1e6, 1e9):
        assert Column(pl.Series([seconds * unit])).moments()[0] == pytest.approx(seconds)
    assert Column(pl.Series([at.replace(tzinfo=None)])).moments()[0] == seconds
    assert Column(pl.Series(["2020-01-02T03:00:00", "x"])).moments()[0] == seconds
    assert Column(pl.Series(["2020-01-02 03:00:00"])).moments()[0] == seconds
    assert Column(pl.Series([dt.date(2020, 1, 2)])).moments()[0] == seconds - 3 * 3600
    assert np.isnan(Column(pl.Series(["when?"])).moments()[0])


def test_lists_from_lists_and_from_text():
    lists = Column(pl.Series([["a", "b"], None, ["b", None]])).lists("|")
    texts = Column(pl.Series(["a|b", None, "b"])).lists("|")
    np.testing.assert_array_equal(lists.offsets, texts.offsets)
    np.testing.assert_array_equal(lists.values, texts.values)
