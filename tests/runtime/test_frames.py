"""The caller's kind of table in, the same kind out, ids with their type."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.runtime.recommender import UnknownItem

from .toys import DictHistory, recommender

HISTORIES = {7: [103, 104], 8: [109], 9: []}
COLUMNS = ["user_id", "item_id", "score", "rank"]


@pytest.fixture
def model() -> Any:
    return recommender(text_ids=False, histories=DictHistory(HISTORIES))


def rows(table: Any) -> list[tuple[Any, ...]]:
    frame = table.pl() if hasattr(table, "pl") else table if isinstance(table, pl.DataFrame) else pl.DataFrame(table)
    return frame.rows()


def test_the_table_holds_what_answer_gives(model: Any) -> None:
    from leanrec.core.nouns import Request

    table = model.recommend([8, 7], k=3)
    assert table.columns == COLUMNS
    assert table["user_id"].to_list() == [8, 8, 8, 7, 7, 7]
    assert table["rank"].to_list() == [1, 2, 3] * 2
    for user, part in zip((8, 7), (table[:3], table[3:]), strict=True):
        ranking = model.answer([Request(user_id=user, k=3)])[0]
        assert part["item_id"].to_list() == ranking.item_ids
        assert part["score"].to_list() == ranking.scores


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_kinds_of_tables_and_types_of_ids(model: Any, dtype: Any) -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    duckdb = pytest.importorskip("duckdb")
    expected = rows(model.recommend([7, 8], k=2))
    users = np.array([7, 8], dtype)
    frame = pl.DataFrame({"user_id": users, "age": [1, 2]})
    found = model.recommend(frame, k=2)
    assert isinstance(found, pl.DataFrame)
    assert found["user_id"].dtype == frame["user_id"].dtype
    assert rows(model.recommend(frame["user_id"], k=2)) == rows(found) == expected
    assert rows(model.recommend(frame.lazy().select("user_id"), k=2)) == expected
    assert rows(model.recommend(users, k=2)) == expected

    table = pandas.DataFrame({"user_id": users})
    found = model.recommend(table, k=2)
    assert isinstance(found, pandas.DataFrame)
    assert found["user_id"].dtype == dtype
    assert list(found.itertuples(index=False, name=None)) == expected
    assert list(model.recommend(table["user_id"], k=2).itertuples(index=False, name=None)) == expected

    arrow = pyarrow.table({"user_id": users})
    found = model.recommend(arrow, k=2)
    assert isinstance(found, pyarrow.Table)
    assert found.schema.field("user_id").type == arrow.schema.field("user_id").type
    assert rows(pl.from_arrow(found)) == expected
    assert isinstance(model.recommend(arrow.column("user_id"), k=2), pyarrow.Table)

    found = model.recommend(duckdb.from_arrow(arrow), k=2)
    assert isinstance(found, duckdb.DuckDBPyRelation)
    assert found.fetchall() == expected


def test_text_ids_and_categories() -> None:
    pandas = pytest.importorskip("pandas")
    model = recommender(histories=DictHistory({"a": ["i1"], "b": ["i2"]}))
    users = pandas.Series(["b", "a"], dtype="category")
    found = model.recommend(users, k=1)
    assert isinstance(found["user_id"].dtype, pandas.CategoricalDtype)
    assert found["user_id"].tolist() == ["b", "a"]
    assert all(isinstance(item, str) for item in found["item_id"])
    assert model.recommend(pl.Series(["b"], dtype=pl.Categorical), k=1)["user_id"].dtype == pl.Categorical
    assert model.recommend("a", k=1)["user_id"].to_list() == ["a"]


def test_users_that_stand_twice_are_answered_once(model: Any) -> None:
    assert model.recommend([8, 7, 8, 8], k=1)["user_id"].to_list() == [8, 7]


def test_all_known_users_and_unknown_ones(model: Any) -> None:
    assert model.recommend(k=1)["user_id"].to_list() == [7, 8, 9]
    assert model.recommend([12345], k=2)["item_id"].to_list() == [100, 101]
    assert model.recommend([], k=2).columns == COLUMNS
    assert len(model.recommend([], k=2)) == 0


def test_histories_as_lists_and_as_tables(model: Any) -> None:
    lists = model.recommend(histories=[[103, 104], np.array([109])], k=2)
    assert lists.columns == ["query", *COLUMNS[1:]]
    assert lists["query"].to_list() == [0, 0, 1, 1]
    table = pl.DataFrame({"user_id": ["x", "y", "x"], "item_id": [103, 109, 104]})
    by_user = model.recommend(histories=table, k=2)
    assert by_user["user_id"].to_list() == ["x", "x", "y", "y"]
    assert by_user["item_id"].to_list() == lists["item_id"].to_list()
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(table.to_dict(as_series=False))
    assert model.recommend(histories=frame, k=2)["item_id"].tolist() == lists["item_id"].to_list()
    arrow = pyarrow.table(table.to_dict(as_series=False))
    assert model.recommend(histories=arrow, k=2)["item_id"].to_pylist() == lists["item_id"].to_list()


def test_exclusions_and_filters_hold_for_everyone(model: Any) -> None:
    best = model.recommend([7, 8], k=3)
    gone = best["item_id"].to_list()[:2]
    assert not set(model.recommend([7, 8], k=3, exclude=gone)["item_id"].to_list()) & set(gone)
    assert 103 in model.recommend([7], k=50, include_seen=True)["item_id"].to_list()


def test_what_cannot_be_asked(model: Any) -> None:
    with pytest.raises(InputError, match="user 1 of those asked about is missing"):
        model.recommend(pl.Series([7, None]))
    with pytest.raises(InputError, match="no column 'user_id'; it has: a, b"):
        model.recommend(pl.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises(InputError, match="needs columns user_id and item_id"):
        model.recommend(histories=pl.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises(UnknownItem):
        model.recommend(histories=[[1]])
