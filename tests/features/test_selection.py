"""Which fields matter: against scikit-learn, and against fields that are planted to matter or not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from leanrec.core.jagged import Jagged
from leanrec.features.batch import FeatureBatch, Layout
from leanrec.features.selection import fields, mutual_information, permutation_importance, rank

LAYOUT = Layout(
    numbers=("x", "x.missing", "noise"), categories=("good", "ids"), sizes=(4, 2001), lists=("g",), list_sizes=(5,),
    history="ids",
)  # fmt: skip


def world(count=4000):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    good = np.where(rng.random(count) < 0.8, 1 + labels, 3)
    missing = rng.random(count) < 0.2
    x = np.where(missing, 0, labels + rng.normal(size=count))
    numbers = np.stack([x, missing, rng.normal(size=count)], axis=1).astype(np.float32)
    categories = np.stack([good, rng.integers(0, 2001, count)], axis=1).astype(np.int32)
    lists = Jagged.from_rows([rng.integers(1, 5, 2) for _ in range(count)])
    return FeatureBatch(LAYOUT, numbers, categories, (lists,), lists), labels


def test_information_is_scikit_learns_less_its_bias():
    batch, labels = world()
    found = {one.field: one.importance for one in mutual_information(batch, labels)}
    good = batch.categories_BF[:, 0]
    bias = (len(np.unique(good)) - 1) / (2 * len(good))
    assert found["good"] == pytest.approx(mutual_info_score(labels, good) - bias)
    assert found["good"] > found["x"] > 0.05 and found["noise"] < 0.01


def test_many_rare_codes_do_not_win_by_their_number():
    batch, labels = world()
    ranked = [one.field for one in mutual_information(batch, labels)]
    ids = batch.categories_BF[:, 1]
    assert mutual_info_score(labels, ids) > mutual_info_score(labels, batch.categories_BF[:, 0]) / 2
    assert ranked.index("ids") > ranked.index("x")


def test_shuffling_a_field_costs_what_the_model_takes_from_it():
    batch, labels = world()
    seen = []

    def score(some):
        seen.append(some)
        return some.numbers_BF[:, 0] + 2.0 * (some.categories_BF[:, 0] == 2) - 2.0 * (some.categories_BF[:, 0] == 1)

    def loss(scores):
        return float(np.log1p(np.exp(-(2 * labels - 1) * scores)).mean())

    ranked = permutation_importance(score, batch, loss, repeats=2, seed=1)
    assert {one.field for one in ranked} == {"good", "ids", "g", "x", "noise", "history"}
    assert [one.field for one in ranked[:2]] == ["good", "x"] and ranked[1].importance > 0
    assert all(one.importance == 0 and one.spread == 0 for one in ranked[2:])
    assert ranked == permutation_importance(score, batch, loss, repeats=2, seed=1)
    for some in seen:
        np.testing.assert_array_equal(
            np.sort(some.numbers_BF[:, 0] + 1j * some.numbers_BF[:, 1]),
            np.sort(batch.numbers_BF[:, 0] + 1j * batch.numbers_BF[:, 1]),
        )


def test_gates_are_ranked_by_size():
    names = fields(LAYOUT)
    assert names == ["good", "ids", "g", "x", "x.missing", "noise", "history"]
    ranked = rank(names, [0.5, 0.1, 0.9, 0.1, 0.0, 0.2, 0.3])
    assert [one.field for one in ranked] == ["g", "good", "history", "noise", "ids", "x", "x.missing"]
