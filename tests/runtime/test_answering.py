"""How a process answers: what is kept is what the source would answer, and threads stay where they should."""

from __future__ import annotations

import os
import threading
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries, Request
from leanrec.runtime.answering import Answering, KeptAnswers
from tests.battery.kinds import build, histories


class Counted:
    """A source that counts what it is asked."""

    def __init__(self, source: Any) -> None:
        self.source, self.asked = source, 0

    def search(self, queries: Queries) -> Hits:
        self.asked += len(queries)
        found: Hits = self.source.search(queries)
        return found


def same(one: Hits, other: Hits) -> None:
    np.testing.assert_array_equal(one.items_BK, other.items_BK)
    np.testing.assert_array_equal(one.scores_BK, other.scores_BK)
    assert (one.brought_BK is None) == (other.brought_BK is None)
    if one.brought_BK is not None and other.brought_BK is not None:
        np.testing.assert_array_equal(one.brought_BK, other.brought_BK)


rows = st.lists(st.integers(0, 3), max_size=3)
question = st.tuples(rows, rows)
batches = st.lists(st.lists(question, min_size=1, max_size=5), max_size=8)


@settings(max_examples=60, deadline=None)
@given(batches, st.integers(1, 6), st.sampled_from(["neighbours", "hybrid"]))
def test_the_same_as_without(batches: list[list[tuple[list[int], list[int]]]], capacity: int, kind: str) -> None:
    source: Any = build("source", kind).source
    kept = KeptAnswers(capacity)
    for number, batch in enumerate(batches):
        queries = Queries(
            Jagged.from_rows([had for had, _ in batch]), 3 + number % 2,
            Jagged.from_rows([never for _, never in batch]) if number % 3 else None,
        )  # fmt: skip
        same(kept.search(source, queries), source.search(queries))
        assert len(kept) <= capacity


def test_only_what_is_new_is_asked() -> None:
    source, kept = Counted(build("source", "neighbours").source), KeptAnswers(100)
    asked = histories(10)
    for expected in (10, 10):
        kept.search(source, Queries(asked, 5))  # type: ignore[arg-type]
        assert source.asked == expected
    kept.search(source, Queries(asked, 6))  # type: ignore[arg-type]
    assert source.asked == 20
    kept.search(source, Queries(asked, 5, asked))  # type: ignore[arg-type]
    assert source.asked == 30
    allowed = Queries(asked, 5, allowed=np.ones(40, np.bool_))
    for expected in (40, 50):  # with a filter nothing is kept
        kept.search(source, allowed)  # type: ignore[arg-type]
        assert source.asked == expected
    assert kept.found == 10 and kept.missed == 30
    kept.forget()
    assert len(kept) == 0


def test_users_are_told_apart() -> None:
    source, kept = build("engine", "factors").source, KeptAnswers(100)
    for users in ([0, 1, -1], [1, 0, -1], [2, 2, 0]):
        queries = Queries(Jagged.from_rows([[3]] * 3), 5, users=np.array(users, np.int32))
        same(kept.search(source, queries), source.search(queries))


def test_a_recommender_keeps_answers() -> None:
    plain, keeping = build("source", "hybrid"), build("source", "hybrid")
    keeping.settle(Answering(kept_answers=50))
    asked = [Request(history=plain.items.ids(row), k=4) for row in histories(20)]
    asked += [Request(history=[], k=4), Request(history=["i1"], k=4, exclude=["i2", "i3"])]
    for _ in range(2):
        assert keeping.answer(asked) == plain.answer(asked)
    assert keeping.kept is not None and keeping.kept.found == len(asked)
    keeping.settle(Answering())
    assert keeping.kept is None


def test_threads_and_cores_are_those_of_the_thread_that_answers() -> None:
    seen: dict[str, Any] = {}

    def answer() -> None:
        Answering(threads=1, pinned=True).settle()
        seen["threads"], seen["cores"] = numba.get_num_threads(), os.sched_getaffinity(0)

    before, threads = os.sched_getaffinity(0), numba.get_num_threads()
    engine = threading.Thread(target=answer)
    engine.start()
    engine.join()
    assert seen == {"threads": 1, "cores": {max(before)}}
    assert os.sched_getaffinity(0) == before and numba.get_num_threads() == threads


def test_words() -> None:
    said = str(Answering(max_batch=8, threads=2, pinned=True, kept_answers=10_000))
    assert said == (
        "at most 8 questions together, scans in 2 threads, the engine thread pinned to a core, 10,000 answers kept"
    )
    with pytest.raises(ValueError, match="max_batch"):
        Answering(max_batch=10**9)
