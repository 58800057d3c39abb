"""The feature space: what each kind makes of a column, the same when stored, and nothing that makes it fail."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.config import build
from leanrec.core.errors import BundleError, ConfigError
from leanrec.features.space import FeatureConfig, FeatureSpace
from leanrec.features.streams import Counts, Reservoir
from tests.features.frames import COLUMNS, examples


def fitted(config=None, **columns):
    return FeatureSpace.fit(examples(**columns), build(FeatureConfig, config or {}))


def numbers(space, **columns):
    return space.transform(pl.DataFrame(columns)).numbers_BF


def codes(space, **columns):
    return space.transform(pl.DataFrame(columns)).categories_BF


def equal(one, other):
    np.testing.assert_array_equal(one.numbers_BF, other.numbers_BF)
    np.testing.assert_array_equal(one.categories_BF, other.categories_BF)
    for a, b in zip(one.lists, other.lists, strict=True):
        np.testing.assert_array_equal(a.values, b.values)
        np.testing.assert_array_equal(a.offsets, b.offsets)
    assert one.layout == other.layout


class TestNumbers:
    def test_mean_0_and_deviation_1_with_a_flag_where_some_were_missing(self):
        values = [1.5, 2.5, None, 4.0]
        space = fitted({"columns": {"x": "number"}}, x=values)
        assert space.layout.numbers == ("x", "x.missing")
        known = np.array([1.5, 2.5, 4.0])
        expected = [[(v - known.mean()) / known.std(), 0] if v else [0, 1] for v in values]
        np.testing.assert_allclose(numbers(space, x=values), expected, rtol=1e-6)

    def test_no_flag_where_none_was_missing_and_a_gap_is_the_mean_then(self):
        space = fitted({"columns": {"x": "number"}}, x=[1.0, 2.0, 6.0])
        assert space.layout.numbers == ("x",)
        np.testing.assert_array_equal(numbers(space, x=[None, float("nan"), float("inf")]), [[0], [0], [0]])

    def test_outliers_are_moved_to_the_nearest_number_that_is_none(self):
        values = [*np.linspace(0, 1, 999), 1e9]
        space = fitted({"columns": {"x": {"kind": "number", "clip": 0.01}}}, x=values)
        assert numbers(space, x=[1e9])[0, 0] == numbers(space, x=[50.0])[0, 0] < 3

    def test_heavy_tails_are_taken_as_logarithms(self):
        values = np.exp(np.linspace(0, 12, 500)) - 1
        space = fitted({"columns": {"x": {"kind": "number", "clip": 0.0}}}, x=values)
        shaped = np.log1p(values)
        np.testing.assert_allclose(numbers(space, x=values)[:, 0], (shaped - shaped.mean()) / shaped.std(), rtol=1e-4)

    def test_buckets_hold_about_as_many_rows_each(self):
        values = np.random.default_rng(0).normal(size=1000)
        space = fitted({"columns": {"x": {"kind": "number", "buckets": 10}}}, x=values)
        found = codes(space, x=values)[:, 0]
        assert space.layout.categories == ("x.bucket",) and space.layout.sizes == (11,)
        assert sorted(Counter(found.tolist())) == list(range(1, 11))
        assert max(Counter(found.tolist()).values()) <= 110
        assert codes(space, x=[None])[0, 0] == 0


class TestCategories:
    def test_codes_by_falling_frequency_and_rare_ones_cut_off(self):
        space = fitted(c=["b"] * 5 + ["a"] * 3 + ["z"])
        assert space.layout.sizes == (3,)
        found = codes(space, c=["b", "a", "z", "new", None, ""])
        np.testing.assert_array_equal(found[:, 0], [1, 2, 0, 0, 0, 0])

    def test_at_most_so_many(self):
        space = fitted({"columns": {"c": {"kind": "category", "most": 1}}}, c=["b"] * 5 + ["a"] * 3)
        np.testing.assert_array_equal(codes(space, c=["b", "a"])[:, 0], [1, 0])

    def test_settings_for_a_kind_hold_for_its_columns(self):
        space = fitted({"kinds": {"category": {"min_count": 1}}}, c=["b", "b", "a"])
        assert space.layout.sizes == (3,)

    def test_hashed_ones_have_a_bucket_known_or_new(self):
        space = fitted({"columns": {"c": {"kind": "category", "hash": 8}}}, c=["a", "b"])
        found = codes(space, c=[*(f"v{n}" for n in range(500)), None])[:, 0]
        assert space.layout.sizes == (9,) and set(found[:-1].tolist()) == set(range(1, 9)) and found[-1] == 0

    def test_lists_leave_out_what_is_new(self):
        space = fitted(g=[["x", "y"], ["x"], None, ["y", "x"]])
        rows = space.transform(pl.DataFrame({"g": [["x", "new", "y"], None, [], ["x"]]})).lists[0]
        assert [row.tolist() for row in rows] == [[1, 2], [], [], [1]]


class TestMoments:
    def test_hour_and_weekday_of_the_event(self):
        moments = [dt.datetime(2024, 1, 1, h, tzinfo=dt.UTC).timestamp() for h in (0, 23)]  # a Monday
        space = fitted(timestamp=moments)
        assert space.layout.categories == ("timestamp.hour", "timestamp.weekday")
        np.testing.assert_array_equal(codes(space, timestamp=[*moments, None]), [[1, 1], [24, 1], [0, 0]])

    def test_the_age_of_anything_else_at_the_event(self):
        born = [dt.date(2000, 1, 1), dt.date(1990, 1, 1), None]
        at = dt.datetime(2024, 1, 1, tzinfo=dt.UTC).timestamp()
        space = fitted(timestamp=[at] * 3, born=born)
        assert space.layout.numbers == ("born.age", "born.age.missing")
        found = numbers(space, timestamp=[at] * 3, born=born)
        np.testing.assert_allclose(found[:2, 0], [-1, 1], atol=1e-6)
        np.testing.assert_array_equal(found[2], [0, 1])
        np.testing.assert_array_equal(numbers(space, born=born)[:, 1], [1, 1, 1])


class TestCrosses:
    def test_every_combination_has_a_code_while_there_is_room(self):
        a, b = ["x", "x", "y", "y"] * 2, ["1", "2", "1", "2"] * 2
        space = fitted({"crosses": [("a", "b")]}, a=a, b=b)
        assert space.layout.categories[2] == "a x b" and space.layout.sizes[2] == 5
        assert sorted(codes(space, a=a[:4], b=b[:4])[:, 2].tolist()) == [1, 2, 3, 4]
        assert codes(space, a=["x"], b=["new"])[0, 2] == 0

    def test_else_they_are_hashed(self):
        a = [f"a{n}" for n in range(60)] * 2
        space = fitted({"crosses": [("a", "b")], "cross_size": 16}, a=a, b=a)
        found = codes(space, a=a, b=a)[:, 2]
        assert space.layout.sizes[2] == 16 and found.min() >= 1 and found.max() <= 15 and len(np.unique(found)) > 10


def test_only_the_most_telling_columns_are_kept_when_asked(capfd):
    rng = np.random.default_rng(0)
    label = np.arange(2000) % 2
    columns = {
        "noise": rng.normal(size=2000),
        "tells": label + rng.normal(size=2000),
        "c": rng.choice(["a", "b"], 2000),
    }
    space = fitted({"keep": 1}, **columns)
    assert space.columns == ["tells"] and "noise, c are left out" in capfd.readouterr().err
    equal(space.transform(pl.DataFrame(columns)), fitted(tells=columns["tells"]).transform(pl.DataFrame(columns)))


def test_what_is_left_out_is_said_with_its_reason(capfd):
    words = [f"a long title number {n}" for n in range(200)]
    space = fitted(same=["s"] * 200, text=words, x=np.arange(200))
    assert space.layout.categories == () and space.layout.numbers == ("x",)
    said = capfd.readouterr().err
    assert "same is left out" in said and "text is left out (free text" in said


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"columns": {"y": "number"}}, "no column 'y'"),
        ({"columns": {"x": "numbre"}}, "did you mean 'number'"),
        ({"columns": {"x": {"kind": "number", "bukets": 3}}}, "did you mean 'buckets'"),
        ({"crosses": [("x", "nope")]}, "no category field to cross"),
    ],
)
def test_a_wrong_setting_is_one_sentence(config, words):
    with pytest.raises(ConfigError, match=words):
        fitted(config, x=np.arange(50))


FULL = {
    "columns": {"x": {"kind": "number", "buckets": 4}, "c": "category", "g": "list", "born": "time"},
    "crosses": [("c", "x.bucket")],
}
SPACE = None


def full_space():
    """A space of every kind, fitted once."""
    global SPACE
    if SPACE is None:
        rng = np.random.default_rng(0)
        SPACE = fitted(
            FULL,
            x=rng.normal(size=100),
            c=rng.choice(["a", "b", "c"], 100),
            g=[list(rng.choice(["p", "q", "r"], 2)) for _ in range(100)],
            timestamp=1.6e9 + 1e5 * np.arange(100),
            born=[dt.date(1990, 1, 1 + n % 28) for n in range(100)],
        )
    return SPACE


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(["x", "c", "g", "timestamp", "born", "other"]), COLUMNS, max_size=5))
def test_no_frame_makes_it_fail(columns):
    size = min((len(column) for column in columns.values()), default=3)
    frame = pl.DataFrame({name: column[:size] for name, column in columns.items()})
    space = full_space()
    batch = space.transform(frame if columns else pl.DataFrame({"": [None] * size}))
    assert len(batch) == size and np.isfinite(batch.numbers_BF).all()
    assert (batch.categories_BF >= 0).all() and (batch.categories_BF < np.array(space.layout.sizes)).all()
    for one, most in zip(batch.lists, space.layout.list_sizes, strict=True):
        assert len(one) == size and ((one.values > 0) & (one.values < most)).all()
    equal(
        batch,
        FeatureSpace.load(space.config(), space.tensors()).transform(
            frame if columns else pl.DataFrame({"": [None] * size})
        ),
    )


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.sampled_from(["x", "c", "g", "timestamp"]), COLUMNS.filter(len), min_size=1))
def test_any_training_part_can_be_learnt_from(columns):
    size = min(len(column) for column in columns.values())
    plain = {n: c[:size] for n, c in columns.items()}
    kinds = {"x": "number", "c": "category", "g": "list", "timestamp": "time"}
    space = fitted({"columns": {name: kinds[name] for name in plain}}, **plain)
    assert np.isfinite(space.transform(pl.DataFrame(plain)).numbers_BF).all()


def test_a_row_is_the_same_alone_and_in_a_batch():
    frame = pl.DataFrame({"x": [1.0, None], "c": ["a", "new"], "g": [["p"], None], "timestamp": [1.6e9, None]})
    space = full_space()
    both = space.transform(frame)
    for row in range(2):
        equal(space.transform(frame[row]), both.take(np.array([row])))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda config, tensors: config["features"][0].update(kind="pickle"),
        lambda config, tensors: config["features"][0].pop("column"),
        lambda config, tensors: config.pop("crosses"),
        lambda config, tensors: tensors.pop("1.keys"),
        lambda config, tensors: tensors.update({"1.codes": tensors["1.codes"] + 7}),
        lambda config, tensors: tensors.update({"0.edges": tensors["0.edges"][::-1].copy()}),
        lambda config, tensors: config["features"][0].update(deviation=0.0),
        lambda config, tensors: config["crosses"][0].update(sizes=[9, 9]),
        lambda config, tensors: config["crosses"][0].update(places=[99, 0]),
        lambda config, tensors: config["ages"][0].update(column="nothing"),
    ],
)
def test_an_edited_bundle_is_refused(spoil):
    import msgspec

    config = msgspec.json.decode(msgspec.json.encode(full_space().config()))
    tensors = dict(full_space().tensors())
    equal(
        FeatureSpace.load(config, tensors).transform(pl.DataFrame({"x": [1.0]})),
        full_space().transform(pl.DataFrame({"x": [1.0]})),
    )
    spoil(config, tensors)
    with pytest.raises(BundleError, match="make it again"):
        FeatureSpace.load(config, tensors)


@given(st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=10))
def test_counts_are_those_of_a_counter(batches):
    counts = Counts()
    for batch in batches:
        counts.add(np.array(batch, np.uint64))
    keys, times = counts.finish()
    expected = sorted(Counter(n for batch in batches for n in batch).items(), key=lambda pair: (-pair[1], pair[0]))
    assert list(zip(keys.tolist(), times.tolist(), strict=True)) == expected


def test_counts_forget_the_rarest_and_say_by_how_much_they_may_fall_short():
    rng = np.random.default_rng(0)
    counts, exact = Counts(most=100), Counter()
    for _ in range(20):
        batch = np.minimum(rng.zipf(1.3, 2000), 5000).astype(np.uint64)
        counts.add(batch)
        counts._merge()
        exact.update(batch.tolist())
    keys, times = counts.finish()
    assert len(keys) <= 100
    for key, time in zip(keys.tolist(), times.tolist(), strict=True):
        assert exact[key] - counts.lost <= time <= exact[key]
    assert keys[:5].tolist() == [key for key, _ in exact.most_common(5)]


def test_a_reservoir_is_small_fair_and_the_same_again():
    def sample():
        reservoir = Reservoir(1000)
        for start in range(0, 20_000, 500):
            reservoir.add(np.arange(start, start + 500, dtype=np.float64))
        return reservoir.finish()

    one = sample()
    assert len(one) == 1000 and abs(one.mean() - 10_000) < 700
    np.testing.assert_array_equal(one, sample())
