"""Popularity, of all time and of late."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.data.prepare import prepare
from leanrec.models.popular import Popular, PopularRecent, popular_fallback
from leanrec.runtime.sources.popular import PopularSource

from .contract import ModelContract
from .worlds import shop


class TestPopular(ModelContract):
    model = "popular"


class TestPopularRecent(ModelContract):
    model = "popular-recent"
    settings = {"days": 2.5}  # noqa: RUF012


def ranked(source: PopularSource, k: int, **asked) -> list[int]:
    return source.search(Queries(Jagged.from_rows([[]]), k, **asked)).items_BK[0].tolist()


def test_ties_go_by_rising_row_and_scores_are_counts():
    source = PopularSource("popular", np.array([1, 5, 3, 5, 0], np.float32))
    assert ranked(source, 7) == [1, 3, 2, 0, 4, -1, -1]
    assert ranked(source, 3, exclude=Jagged.from_rows([[1, 2, 1]])) == [3, 0, 4]
    assert ranked(source, 3, allowed=np.array([True, False, True, False, True])) == [2, 0, 4]
    assert source.score(Queries(Jagged.from_rows([[], [0]]), 1), Jagged.from_rows([[4, 1], [2]])).tolist() == [0, 5, 3]
    assert source.similar(1, 2).items_BK.tolist() == [[3, 2]]


@pytest.mark.parametrize("scores", [None, np.zeros(3), np.zeros((3, 1), np.float32), np.array([np.nan], np.float32)])
def test_broken_bundles_are_refused(scores):
    parts = {} if scores is None else {"popular": {"scores": scores}}
    with pytest.raises(BundleError, match="no usable popularity scores"):
        PopularSource.load("popular", {}, parts)


def test_counts_are_of_training_alone_unless_refitted():
    data = shop()
    for refit in (False, True):
        counts_N = np.bincount(data.train(refit).values, minlength=len(data.items))
        assert popular_fallback(data, refit=refit).scores_N.tolist() == counts_N.tolist()
        recommender = Popular().fit(data, refit=refit)
        assert recommender.source.scores_N.tolist() == counts_N.tolist()
        assert recommender.card["refit"] is refit


def test_recent_counts_end_with_training_and_all_time_breaks_ties():
    """a was popular long ago, b of late; c and d were bought once of late, d more often before; z only in test."""
    day = 86_400.0
    old = [("a", 0.0)] * 5 + [("d", 1.0)] * 2
    late = [("b", 20.0), ("b", 21.0), ("c", 21.0), ("d", 21.0)]
    log = [(f"u{i}", item, when) for i, (item, when) in enumerate(old + late)]
    log += [("t", "a", 0.0), ("t", "z", 100.0)]
    labels = ["train"] * (len(log) - 1) + ["test"]
    events = pl.DataFrame(
        {
            "user_id": [user for user, _, _ in log],
            "item_id": [item for _, item, _ in log],
            "timestamp": [1e9 + when * day for *_, when in log],
            "part": labels,
        }
    )
    data = prepare(events, split="column:part")
    recommender = PopularRecent().fit(data, refit=True)
    names = data.items.ids([i for i in ranked(recommender.source, 5) if i >= 0])
    assert names == ["b", "d", "c", "a", "z"]
    everything = PopularRecent(days=1000).fit(data, refit=True)
    assert data.items.ids(ranked(everything.source, 1)) == ["a"]


def test_without_times_there_is_no_recent():
    with pytest.raises(ConfigError, match="popular-recent needs the time of events, and shop has none: use popular"):
        PopularRecent().fit(shop(times=False))
    for days in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="days must be above 0"):
            PopularRecent(days=days)
