"""Faults of recommendations, in themselves and against the events they are judged on."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from leanrec.evaluation.audit.base import Finding, Lists, Log, finding, note

__all__ = ["LIST_CHECKS", "NEEDS_SPLIT"]

_ENOUGH = 20
"""Fewer users than this say nothing about how lists were made."""
_NEARLY_ALL = 0.95
_TOO_GOOD = 0.9


def sampled_candidates(log: Log, lists: Lists) -> Finding | None:
    """Ranking a few candidates, the right one among them, flatters every model and reorders them (Krichene & Rendle
    2020). Such lists hold every user's test items although they hold little of the catalogue."""
    judged = _targets(log, lists)
    if len(judged) < _ENOUGH or _first_hits(log, lists) >= _TOO_GOOD:
        return None
    catalogue, longest = log.frame["item"].n_unique(), _longest(lists)
    complete = judged.filter(pl.col("listed") == pl.col("targets"))
    if 2 * longest > catalogue or len(complete) < _NEARLY_ALL * len(judged):
        return None
    message = (
        f"the lists of {{n}} of {len(judged):,} users hold all their test items, in {longest:,} of {catalogue:,} "
        "places: a few sampled candidates were ranked, not the catalogue"
    )
    return finding("sampled-candidates", message, complete["user"].sort())


def answers_know_test(log: Log, lists: Lists) -> Finding | None:
    judged = _targets(log, lists)
    share = _first_hits(log, lists)
    if len(judged) < _ENOUGH or share < _TOO_GOOD:
        return None
    message = f"the first item is right for {100 * share:.0f} % of users: the lists were made knowing the test"
    return finding("answers-know-test", message, judged["user"].sort(), round(share * len(judged)))


def _targets(log: Log, lists: Lists) -> pl.DataFrame:
    """user, targets (distinct test items) and listed (those in the list), for users who have a list."""
    test = log.test.select("user", "item").unique()
    test = test.join(lists.frame.select("user").unique(), on="user", how="semi")
    found = test.join(lists.frame.select("user", "item").unique(), on=["user", "item"], how="semi")
    counts = found.group_by("user").agg(listed=pl.len())
    return test.group_by("user").agg(targets=pl.len()).join(counts, on="user", how="left").fill_null(0)


def _longest(lists: Lists) -> int:
    return int(lists.frame.select(pl.col("place").max()).item() or 0)


def _first_hits(log: Log, lists: Lists) -> float:
    first = lists.frame.filter(pl.col("place") == 1).join(log.test.select("user").unique(), on="user", how="semi")
    hits = first.join(log.test.select("user", "item").unique(), on=["user", "item"], how="semi")
    return len(hits) / max(len(first), 1)


def seen_items(log: Log, lists: Lists) -> Finding | None:
    if not log.never_repeats():
        return None
    seen = lists.frame.join(log.train, on=["user", "item"], how="semi")
    message = "{n} recommended items are in their user's history, where seen items do not count: they are sure misses"
    return finding("seen-items", message, seen["user"])


def unknown_items(log: Log, lists: Lists) -> Finding | None:
    strange = lists.frame.join(log.frame, on="item", how="anti")
    message = "{n} recommended items never occur in the data: are ids of one kind, and of this catalogue?"
    return finding("unknown-items", message, strange["item"])


def future_items(log: Log, lists: Lists) -> Finding | None:
    """Items that only the test holds: a model without attributes cannot have known them."""
    future = log.test.join(log.train, on="item", how="anti").select("item").unique()
    told = lists.frame.join(future, on="item", how="semi")
    message = "{n} recommended items have no event before the test"
    if log.described:
        return note("future-items", message + ": the model must know them by their attributes", told["item"])
    return finding("future-items", message + ", and the data has no attributes to know them by: a leak", told["item"])


def repeated_items(log: Log, lists: Lists) -> Finding | None:
    again = lists.frame.filter(~pl.struct("user", "item").is_first_distinct())
    return finding("repeated-items", "{n} items stand twice in the list of one user", again["user"])


def broken_ranks(log: Log, lists: Lists) -> Finding | None:
    if "rank" not in lists.frame.columns:
        return None
    start = lists.frame["rank"].min()
    expected = pl.col("place") + (start if start in (0.0, 1.0) else 1.0) - 1
    broken = lists.frame.filter((pl.col("rank") != expected) | pl.col("rank").is_null() | pl.col("rank").is_nan())
    message = "{n} ranks are repeated or left out: a user's ranks run 1, 2, 3 ..."
    return finding("broken-ranks", message, broken["user"])


def uneven_lists(log: Log, lists: Lists) -> Finding | None:
    lengths = lists.frame.group_by("user").agg(length=pl.len()).sort("user")
    if lists.k is not None:
        longer = lengths.filter(pl.col("length") > lists.k)["user"]
        wrong = longer if len(longer) else lengths.filter(pl.col("length").max() < lists.k)["user"]
        return finding("wrong-length", f"{{n}} lists do not fit k = {lists.k}", wrong)
    short = lengths.filter(pl.col("length") < pl.col("length").max())["user"]
    message = f"{{n}} lists are shorter than the longest ({_longest(lists)}): their empty places count as misses"
    return note("wrong-length", message, short)


def broken_scores(log: Log, lists: Lists) -> Finding | None:
    if "score" not in lists.frame.columns:
        return None
    broken = lists.frame.filter(pl.col("score").is_null() | ~pl.col("score").is_finite())
    return finding("broken-scores", "{n} scores are missing, infinite or not a number", broken["user"])


def constant_scores(log: Log, lists: Lists) -> Finding | None:
    if "score" not in lists.frame.columns:
        return None
    flat = lists.frame.group_by("user").agg(pl.len(), kinds=pl.col("score").n_unique()).sort("user")
    flat = flat.filter((pl.col("len") > 1) & (pl.col("kinds") == 1))
    message = "the lists of {n} users have one score for all items: nothing but the order of the file ranks them"
    return finding("constant-scores", message, flat["user"])


def unsorted_scores(log: Log, lists: Lists) -> Finding | None:
    if not {"rank", "score"} <= set(lists.frame.columns):
        return None
    rising = lists.frame.sort("user", "place").filter(pl.col("score") > pl.col("score").shift(1).over("user"))
    return finding("unsorted-scores", "{n} items are ranked below one of a lower score", rising["user"])


def missing_users(log: Log, lists: Lists) -> Finding | None:
    asked = log.test.join(lists.frame, on="user", how="anti")["user"].unique().sort()
    message = "{n} test users have no list: they count as zero, and a mean without them is over other users"
    return finding("missing-users", message, asked)


def unknown_users(log: Log, lists: Lists) -> Finding | None:
    strangers = lists.frame.join(log.frame, on="user", how="anti")["user"].unique().sort()
    return finding("unknown-users", "{n} users of the lists do not occur in the data", strangers)


LIST_CHECKS: dict[str, Callable[[Log, Lists], Finding | None]] = {
    "sampled-candidates": sampled_candidates,
    "answers-know-test": answers_know_test,
    "seen-items": seen_items,
    "unknown-items": unknown_items,
    "future-items": future_items,
    "missing-users": missing_users,
    "unknown-users": unknown_users,
    "repeated-items": repeated_items,
    "broken-ranks": broken_ranks,
    "wrong-length": uneven_lists,
    "broken-scores": broken_scores,
    "constant-scores": constant_scores,
    "unsorted-scores": unsorted_scores,
}
"""Kind -> check of lists against a log."""
NEEDS_SPLIT = frozenset({"sampled-candidates", "answers-know-test", "seen-items", "future-items", "missing-users"})
"""Those that compare with what was held out."""
