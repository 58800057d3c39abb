"""A data set is the same after it was written and mapped again."""

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from leanrec.core.errors import InputError
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from tests.data.logs import LOGS, frame


def assert_equal(one, other):
    assert one.users == other.users
    assert one.items == other.items
    assert (one.protocol, one.report, one.name) == (other.protocol, other.report, other.name)
    assert one.fingerprint == other.fingerprint
    for name in ("times", "values", "split"):
        left, right = getattr(one.interactions, name), getattr(other.interactions, name)
        assert (left is None) == (right is None)
        assert left is None or (
            left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype != np.uint8)
        )
    assert np.array_equal(one.interactions.items.values, other.interactions.items.values)
    assert np.array_equal(one.interactions.items.offsets, other.interactions.items.offsets)
    assert np.array_equal(one.certify, other.certify)
    for left, right in ((one.attributes, other.attributes), (one.user_attributes, other.user_attributes)):
        assert (left is None) == (right is None)
        assert left is None or left.equals(right)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LOGS)
def test_saved_is_loaded(tmp_path, log):
    data = prepare(frame(log, text=len(log) % 2 == 0))
    data.save(tmp_path / "data")
    assert_equal(Dataset.load(tmp_path / "data"), data)


def test_with_values_and_attributes(tmp_path):
    log = pl.DataFrame({"user_id": [1, 2], "item_id": ["ä", "b"], "timestamp": [1, 2], "value": [1.0, None]})
    items = pl.DataFrame({"item_id": ["ä", "b"], "tags": [["x"], []]})
    options = {"items": items, "users": pl.DataFrame({"user_id": [1], "age": [3]}), "name": "my set"}
    data = prepare(log, out=tmp_path / "data", **options)
    assert_equal(data, prepare(log, **options))
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [
        "dataset.json", "interactions.safetensors", "items.parquet", "items.safetensors", "users.parquet",
        "users.safetensors",
    ]  # fmt: skip
    assert not data.interactions.items.values.flags.writeable


def test_preparing_again_replaces_the_folder(tmp_path):
    log = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2]})
    prepare(log, items=pl.DataFrame({"item_id": [1]}), out=tmp_path / "data")
    second = prepare(log[:1], out=tmp_path / "data")
    assert second.attributes is None
    assert len(second.users) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_the_fingerprint_is_of_the_content():
    log = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 1], "timestamp": [1, 2, 3]})
    base = prepare(log)
    assert prepare(log.cast(pl.Int16), name="other").fingerprint == base.fingerprint
    different = [
        prepare(log.with_columns(timestamp=pl.col("timestamp") + 1)),
        prepare(log, repeats=True),
        prepare(log, seed=1),
        prepare(log.with_columns(item_id=pl.col("item_id") + 1)),
        prepare(log.cast({"item_id": pl.String})),
        prepare(log.with_columns(value=1.0)),
    ]
    assert len({base.fingerprint, *(data.fingerprint for data in different)}) == 7


def test_cases_by_kind_of_user():
    data = prepare(frame([(u, i, i) for u in range(7) for i in range(4)]), certify=0.5)
    every, tune, certify = (data.cases("test", users=users).users.tolist() for users in ("all", "tune", "certify"))
    assert sorted(tune + certify) == every
    assert set(certify) == set(np.flatnonzero(data.certify).tolist())
    assert tune
    assert certify
    assert data.train_times().values.tolist() == [1_000_000 + i for _ in range(7) for i in range(2)]
    assert data.train_times(refit=True).lengths.tolist() == [3] * 7
    assert data.train_values() is None
    with pytest.raises(InputError, match="'valid' or 'test'"):
        data.cases("train")
