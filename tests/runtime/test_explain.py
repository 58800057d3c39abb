"""Explanations are counterfactual: the named event is the one whose absence costs the answer most."""

from __future__ import annotations

import numpy as np

from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries, Request
from leanrec.runtime.explain import responsible

from . import toys


def test_the_named_event_is_the_one_whose_absence_costs_most() -> None:
    source = toys.recommender().source
    random = np.random.default_rng(0)
    for _ in range(20):
        history = random.integers(0, source.num_items, 6).astype(np.int32)
        items = random.choice(source.num_items, 4, replace=False).astype(np.int32)
        named = responsible(source, history, items)
        for item, event in zip(items, named, strict=True):
            asked = Jagged.from_rows([[item]])
            whole = float(source.score(Queries(Jagged.from_rows([history]), 1), asked)[0])
            falls = {
                int(e): whole - float(source.score(Queries(Jagged.from_rows([history[history != e]]), 1), asked)[0])
                for e in np.unique(history)
            }
            best = max(falls.values())
            assert event == -1 if best <= 0 else falls[int(event)] == best


def test_an_answer_says_why_only_when_asked() -> None:
    model = toys.recommender()
    history = model.items.ids([1, 2, 3])
    plain, asked = model.answer([Request(history=history, k=4), Request(history=history, k=4, explain=True)])
    assert plain.why is None
    assert asked.why is not None
    assert len(asked.why) == 4
    assert all(why is None or why in history for why in asked.why)
    assert list(asked.item_ids) == list(plain.item_ids)


def test_a_single_event_is_the_reason_and_nothing_is_not() -> None:
    source = toys.recommender().source
    items = np.asarray([4, 5], np.int32)
    assert responsible(source, np.asarray([7], np.int32), items).tolist() == [7, 7]
    assert responsible(source, np.asarray([], np.int32), items).tolist() == [-1, -1]
