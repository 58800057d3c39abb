"""Recommendations from elsewhere are judged exactly as a model that gives them, and their faults are counted."""

from __future__ import annotations

import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.data.prepare import prepare
from leanrec.evaluation.evaluate import evaluate
from leanrec.models.item_knn import ItemKNN

from ..models.worlds import shop


@pytest.fixture(scope="module")
def data():
    return shop()


@pytest.fixture(scope="module")
def model(data):
    return ItemKNN(neighbours=20, half_life=0).fit(data)


@pytest.fixture(scope="module")
def table(data, model):
    """What the model recommends to the users of the test."""
    cases = data.cases("test")
    lists = [data.items.ids(history) for history in cases.histories]
    found = model.recommend(histories=lists, k=10)
    return found.select(
        pl.Series("user_id", data.users.ids(cases.users)).gather(found["query"]), "item_id", "score", "rank"
    )


@pytest.fixture(scope="module")
def expected(data, model):
    return evaluate(model, data, k=(5, 10)).rows[0]


def judged(table, data, k=(5, 10), **options):
    return evaluate(table, data, k=k, **options).rows[0]


def test_a_table_is_judged_as_its_model(table, data, expected):
    for one in (table, table.drop("rank"), table.drop("score"), table.lazy(), table.to_arrow()):
        found = judged(one, data)
        assert found.model == "table"
        assert found.metrics == expected.metrics
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=1).drop("score")
    assert judged(shuffled, data).metrics == expected.metrics


def test_pandas_and_files(table, data, expected, tmp_path):
    plain = table.to_dict(as_series=False)
    import pandas

    assert judged(pandas.DataFrame(plain), data).metrics == expected.metrics
    table.write_parquet(tmp_path / "r.parquet")
    table.write_csv(tmp_path / "r.csv")
    found = evaluate({"theirs": tmp_path / "r.parquet", "csv": str(tmp_path / "r.csv")}, data, k=(5, 10))
    assert [row.model for row in found] == ["theirs", "csv"]
    assert all(row.metrics == expected.metrics for row in found)


def test_rank_wins_over_score_and_gaps_close(table, data, expected):
    gaps = table.with_columns(pl.col("rank") * 3 + 5, score=-pl.col("score"))
    assert judged(gaps, data).metrics == expected.metrics


def test_repeated_items_count_once(table, data, expected):
    doubled = pl.concat([table, table.with_columns(pl.col("rank") + 100)]).drop("score")
    found = judged(doubled, data)
    assert found.metrics == expected.metrics
    assert found.notes[0] == f"{len(table):,} repeated items counted once, at their best place"


def test_missing_users_count_as_zero(table, data, expected):
    gone = table["user_id"].unique(maintain_order=True)[:5].to_list()
    found = judged(table.filter(~pl.col("user_id").is_in(gone)), data)
    users = data.users.rows(gone)
    at = [expected.users_B.tolist().index(user) for user in users]
    assert found.values["ndcg@10"][at].sum() == 0
    remaining = expected.values["ndcg@10"].sum() - expected.values["ndcg@10"][at].sum()
    assert found.values["ndcg@10"].sum() == pytest.approx(remaining)
    assert "5 users have no recommendations: they count as zero" in found.notes[-1]


def test_strangers_unknown_items_and_unusable_rows_are_said(table, data):
    first = table["user_id"][0]
    extra = pl.DataFrame(
        {
            "user_id": ["stranger", first, first, first, None],
            "item_id": ["item1", "no such item", None, "item1", "item1"],
            "rank": [1.0, 0.0, 1.0, None, 2.0],
        }
    )
    found = judged(pl.concat([table.drop("score").cast({"rank": pl.Float64}), extra], how="diagonal"), data, k=10)
    assert "2 rows without an item or a rank were dropped" in found.notes
    assert "2 rows are about users that the data does not know" in found.notes
    assert "1 recommended items are unknown to the data: they count as misses" in found.notes


def test_equal_scores_keep_the_order_of_the_table_and_are_said(table, data, expected):
    found = judged(table.drop("rank").with_columns(score=pl.lit(1.0)), data)
    assert found.metrics == expected.metrics
    assert any("share their score with another of the same user" in note for note in found.notes)


def test_seen_items_are_misses_where_they_may_not_be_recommended(data):
    cases = data.cases("test")
    rows = [(data.users.ids([u])[0], i, 1) for u, h in zip(cases.users, cases.histories, strict=True)
            for i in data.items.ids(h[:1])]  # fmt: skip
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "rank"], orient="row")
    found = judged(table, data)
    assert found.metrics["recall@10"] == 0
    assert found.notes == [f"{len(cases)} recommended items were already in the user's history: they count as misses"]
    assert judged(table, data, include_seen=True).notes != found.notes


def test_numbers_and_text_are_taken_for_what_is_meant():
    numbers = prepare(
        {"user_id": [1, 1, 1, 2, 2, 2], "item_id": [7, 8, 9, 8, 7, 9], "timestamp": [1e9, 2e9 / 2, 1.1e9] * 2}, name="n"
    )
    as_text = pl.DataFrame({"user_id": ["1", "2", "3x"], "item_id": ["9", "9", "9"], "rank": [1, 1, 1]})
    found = judged(as_text, numbers, k=1)
    assert found.metrics["recall@1"] == 1.0
    assert found.notes == ["1 rows are about users that the data does not know"]


def test_tables_that_cannot_be_read(table, data, tmp_path):
    with pytest.raises(InputError, match=r"no column 'user_id' \(did you mean 'userid'\?\)"):
        judged(table.rename({"user_id": "userid"}), data)
    with pytest.raises(InputError, match="neither a column 'rank' nor 'score'"):
        judged(table.drop("rank", "score"), data)
    with pytest.raises(InputError, match="'rank' holds String, not numbers"):
        judged(table.with_columns(rank=pl.lit("first")), data)
    with pytest.raises(InputError, match="no recommendation for any user of shop"):
        judged(table.with_columns(user_id=pl.lit("nobody")), data)
    with pytest.raises(InputError, match=r"absent\.csv"):
        judged(str(tmp_path / "absent.csv"), data)
    with pytest.raises(InputError):
        judged(42, data)
