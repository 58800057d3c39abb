"""The referee: every planted fault is found by its name, and what is clean stays clean."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.data.prepare import prepare
from leanrec.evaluation.audit import audit
from leanrec.evaluation.audit.events import EVENT_CHECKS
from leanrec.evaluation.audit.lists import LIST_CHECKS
from leanrec.models.item_knn import ItemKNN
from leanrec.models.popular import Popular, PopularRecent

USERS, ITEMS, K = 120, 100, 10


def films(seed=0):
    """Ratings as those of a film site: nobody repeats, times differ, popular items first; last event test."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, ITEMS + 1) ** 0.7
    rows = []
    for user in range(USERS):
        count = int(rng.integers(6, 20))
        items = rng.choice(ITEMS, count, replace=False, p=weights / weights.sum())
        times = np.sort(rng.choice(10_000_000, count, replace=False)) + 880_000_000.0
        labels = ["train"] * (count - 2) + ["valid", "test"]
        rows += zip([f"u{user}"] * count, [f"i{i}" for i in items], times, labels, strict=True)
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "split"], orient="row")
    only_test = log.join(log.filter(pl.col("split") != "test"), on="item_id", how="anti")
    return log.join(only_test, on="user_id", how="anti")


def popular_lists(log, k=K):
    """The most popular items that the user has not had, with ranks and falling scores."""
    known = log.filter(pl.col("split") != "test")
    counts = known.group_by("item_id").len().sort("len", "item_id", descending=True)
    rows = []
    for user in log["user_id"].unique(maintain_order=True):
        seen = set(known.filter(pl.col("user_id") == user)["item_id"])
        best = [(item, count) for item, count in counts.iter_rows() if item not in seen][:k]
        rows += [(user, item, rank + 1, count - rank / 100) for rank, (item, count) in enumerate(best)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "rank", "score"], orient="row")


LOG, LISTS = films(), popular_lists(films())
IS_TEST = pl.col("split") == "test"


def kinds(*arguments, **options):
    return {finding.kind for finding in audit(*arguments, **options).findings}


def last_train(log):
    """Row numbers of each user's last training event."""
    rows = log.with_row_index()
    return rows.filter(pl.col("split") == "train").group_by("user_id", maintain_order=True).last()["index"]


def moved(log, rows, **values):
    return log.with_row_index().with_columns(
        **{name: pl.when(pl.col("index").is_in(rows.to_list())).then(value).otherwise(pl.col(name))
           for name, value in values.items()}
    ).drop("index")  # fmt: skip


def by_time(log, leak=0):
    """A split by time, the same moment for all, of which `leak` test events are said to be training events."""
    cut = log["timestamp"].quantile(0.8)
    log = log.with_columns(split=pl.when(pl.col("timestamp") < cut).then(pl.lit("train")).otherwise(pl.lit("test")))
    late = log.with_row_index().filter(IS_TEST).sort("timestamp")["index"].tail(leak)
    return moved(log, late, split=pl.lit("train"))


def tied(log):
    ends = last_train(log).head(5)
    rows = log.with_row_index().with_columns(
        test_time=pl.col("timestamp").filter(IS_TEST).first().over("user_id"),
        is_valid=pl.col("split") == "valid",
    )
    users = log.with_row_index().filter(pl.col("index").is_in(ends.to_list()))["user_id"].to_list()
    tie = pl.col("user_id").is_in(users) & pl.col("is_valid")
    return rows.with_columns(timestamp=pl.when(tie).then("test_time").otherwise("timestamp")).select(log.columns)


def with_rows(log, rows, **values):
    """`log` and copies of some rows with other values at its end."""
    return pl.concat([log, rows.with_columns(**values).select(log.columns)], how="vertical_relaxed")


TEST_ROWS, TRAIN_ROWS = LOG.filter(IS_TEST), LOG.filter(pl.col("split") == "train")
FAULTY_LOGS = {
    "future-training": with_rows(LOG, TRAIN_ROWS.head(3), timestamp=pl.lit(8.95e8), item_id=pl.lit("i99")),
    "future-validation": with_rows(
        LOG, LOG.filter(pl.col("split") == "valid").head(3), timestamp=pl.lit(8.95e8), item_id=pl.lit("i99")
    ),
    "global-time": by_time(LOG, leak=3),
    "unstable-order": tied(LOG),
    "duplicates-across-splits": with_rows(LOG, TEST_ROWS.head(4), split=pl.lit("train")),
    "duplicated-test-rows": with_rows(LOG, TEST_ROWS.head(4)),
    "target-in-history": with_rows(LOG, TEST_ROWS.head(4), split=pl.lit("train"), timestamp=pl.col("timestamp") - 9e6),
    "untrained-users": with_rows(LOG, TEST_ROWS.head(2), user_id=pl.lit("stranger")),
    "untrained-items": LOG.with_columns(
        item_id=pl.when(IS_TEST).then("x" + pl.col("item_id")).otherwise("item_id")
    ),
    "mixed-time-units": with_rows(LOG, TRAIN_ROWS.head(3), timestamp=pl.col("timestamp") * 1000, user_id=pl.lit("u0")),
    "missing-ids": with_rows(LOG, TRAIN_ROWS.head(3), user_id=pl.lit(None, pl.String)),
    "nothing-held-out": LOG.with_columns(split=pl.lit("train")),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(FAULTY_LOGS))
def test_a_fault_planted_in_events_is_found(kind):
    found = audit(FAULTY_LOGS[kind])
    assert kind in {finding.kind for finding in found.findings}
    one = next(finding for finding in found.findings if finding.kind == kind)
    assert one.count > 0
    assert one.examples
    assert kind in str(found)


def sampled(log, negatives=20, seed=1):
    """Each user's test item among random others, in random order: what a sampled metric ranks."""
    rng = np.random.default_rng(seed)
    rows = []
    for user, item in log.filter(IS_TEST).select("user_id", "item_id").iter_rows():
        had = set(log.filter(pl.col("user_id") == user)["item_id"])
        others = [f"i{i}" for i in rng.permutation(ITEMS) if f"i{i}" not in had and i < 90][:negatives]
        listed = [*others, item]
        rng.shuffle(listed)
        rows += [(user, one, rank + 1, 1.0 - rank / 100) for rank, one in enumerate(listed)]
    return pl.DataFrame(rows, schema=LISTS.schema, orient="row")


FIRST, SECOND = pl.col("rank") == 1, pl.col("rank") == 2
KNOWING = pl.concat(
    [TEST_ROWS.select("user_id", "item_id", rank=pl.lit(1), score=pl.lit(1e6)),
     LISTS.join(TEST_ROWS, on=["user_id", "item_id"], how="anti").with_columns(pl.col("rank") + 1)],
    how="vertical_relaxed",
)  # fmt: skip
FUTURE = with_rows(LOG, TEST_ROWS.tail(1), item_id=pl.lit("newest"))
FAULTY_LISTS = {
    "sampled-candidates": (LOG, sampled(LOG)),
    "answers-know-test": (LOG, KNOWING),
    "seen-items": (
        LOG,
        LISTS.with_columns(
            item_id=pl.when(FIRST & (pl.col("user_id") == "u1"))
            .then(pl.lit(TRAIN_ROWS.filter(pl.col("user_id") == "u1")["item_id"][0]))
            .otherwise("item_id")
        ),
    ),
    "unknown-items": (LOG, LISTS.with_columns(item_id=pl.when(FIRST).then(pl.lit("z")).otherwise("item_id"))),
    "future-items": (FUTURE, LISTS.with_columns(item_id=pl.when(FIRST).then(pl.lit("newest")).otherwise("item_id"))),
    "missing-users": (LOG, LISTS.filter(pl.col("user_id") != "u1")),
    "unknown-users": (LOG, with_rows(LISTS, LISTS.head(10), user_id=pl.lit("nobody"))),
    "repeated-items": (LOG, LISTS.with_columns(item_id=pl.col("item_id").first().over("user_id"))),
    "broken-ranks": (LOG, LISTS.with_columns(rank=pl.when(SECOND).then(1).otherwise("rank"))),
    "broken-scores": (LOG, LISTS.with_columns(score=pl.when(SECOND).then(float("nan")).otherwise("score"))),
    "constant-scores": (LOG, LISTS.with_columns(score=pl.lit(1.0))),
    "unsorted-scores": (LOG, LISTS.with_columns(score=-pl.col("score"))),
}


@pytest.mark.parametrize("kind", list(FAULTY_LISTS))
def test_a_fault_planted_in_lists_is_found(kind):
    assert kind in kinds(*FAULTY_LISTS[kind])


def test_a_wrong_length_of_lists_is_found():
    assert kinds(LOG, LISTS, k=K) == set()
    assert kinds(LOG, LISTS, k=5) == {"wrong-length"}
    assert kinds(LOG, LISTS, k=20) == {"wrong-length"}


def test_a_history_out_of_order_is_found():
    data = prepare(LOG.drop("split"), split="leave-one-out", repeats=False, name="films")
    data.interactions.times[:3] = data.interactions.times[:3][::-1]
    assert "unordered-history" in kinds(data)


def test_every_check_has_a_planted_fault():
    planted = {*FAULTY_LOGS, *FAULTY_LISTS, "wrong-length", "unordered-history"}
    assert planted == {*EVENT_CHECKS, *LIST_CHECKS}


def test_clean_events_and_lists_raise_nothing():
    assert kinds(LOG, LISTS, k=K) == set()
    assert kinds(LOG.drop("split")) == set()
    assert kinds(by_time(LOG)) == set()
    assert kinds(LOG.with_columns(order=pl.int_range(pl.len())), columns={"order_by": "order"}) == set()


@pytest.mark.parametrize("split", ["leave-one-out", "time:0.8,0.1,0.1", "ratio:0.8,0.1,0.1", "users:0.6,0.2,0.2"])
@pytest.mark.parametrize("model", [Popular(), PopularRecent(), ItemKNN()], ids=lambda model: model.name)
def test_our_own_data_and_answers_are_clean(split, model, tmp_path):
    data = prepare(LOG.drop("split"), split=split, repeats=False, out=tmp_path / "data")
    answers = model.fit(data).recommend(k=K)
    found = audit(tmp_path / "data", answers)
    assert found.findings == (), found


def test_a_split_by_user_is_told_what_it_is_worth():
    """A note, not a fault: training knows of events that come after somebody's test event."""
    found = audit(LOG)
    assert found.clean
    assert "global-time" in {one.kind for one in found.notes}


def test_ties_that_a_column_decides_are_no_fault():
    log = tied(LOG).with_columns(pos=pl.int_range(pl.len()))
    assert "unstable-order" not in kinds(log, columns={"order_by": "pos"})
    data = prepare(log.drop("split"), order_by="pos", repeats=False)
    assert "unstable-order" not in kinds(data)
    assert "unstable-order" in kinds(prepare(log.drop("split"), repeats=False))


def test_items_known_by_attributes_may_be_new():
    items = pl.DataFrame({"item_id": [*LOG["item_id"].unique(), "newest"], "title": "x"})
    log = with_rows(LOG, TEST_ROWS.tail(1), item_id=pl.lit("newest"))
    data = prepare(log, items=items, split="column:split", repeats=False)
    assert "future-items" not in kinds(data, FAULTY_LISTS["future-items"][1])


def test_ids_may_be_numbers_here_and_text_there():
    numbers = LOG.with_columns(item_id=pl.col("item_id").str.slice(1).cast(pl.Int64))
    lists = LISTS.with_columns(item_id=pl.col("item_id").str.slice(1))
    assert kinds(numbers, lists) == set()


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (LISTS.drop("item_id"), "no column 'item_id'"),
        (LISTS.drop("rank", "score"), "neither a column 'rank' nor 'score'"),
        (LISTS.with_columns(pl.col("rank").cast(pl.String)), "not numbers"),
    ],
)
def test_tables_that_are_no_recommendations_are_refused(lists, message):
    with pytest.raises(InputError, match=message):
        audit(LOG, lists)


def test_labels_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match="none of train, valid, test"):
        audit(LOG.with_columns(split=pl.lit("holdout")))
