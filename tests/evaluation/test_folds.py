"""Folds hold out everything once and leak nothing; pooling is the mean over users."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.errors import InputError
from leanrec.data.split import CONTEXT, TEST, TRAIN, VALID
from leanrec.evaluation.audit import audit
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.folds import fold
from leanrec.jobs.cross_validation import cross_validate
from leanrec.models.item_knn import ItemKNN
from leanrec.models.popular import Popular

from ..models.worlds import shop


@pytest.fixture(scope="module")
def data():
    return shop()


def test_every_user_is_tested_once_and_is_unknown_then(data):
    tested = np.zeros(len(data.users), int)
    for part in fold(data, 4):
        users, split = part.interactions.items.row_of(), part.interactions.split
        held = np.unique(users[split == TEST])
        tested[held] += 1
        assert not np.isin(held, users[np.isin(split, [TRAIN, VALID])]).any()
        last = part.interactions.items.offsets[1:][held] - 1
        assert (split[last] == TEST).all()
        assert (
            part.cases("test", include_seen=True).histories.lengths == part.interactions.items.lengths[held] - 1
        ).all()
        assert {TRAIN, VALID, TEST, CONTEXT} == set(split.tolist())
        assert audit(part).clean
    assert (tested == 1).all()


def test_every_event_is_tested_once(data):
    tested = np.zeros(len(data.interactions), int)
    for part in fold(data, 5, over="events"):
        tested += part.interactions.split == TEST
        assert not part.protocol.ordered
        sizes = np.bincount(part.interactions.items.row_of(), part.interactions.split == TEST)
        assert sizes.max() <= -(-data.interactions.items.lengths.max() // 5)
    assert (tested == 1).all()


def test_folds_are_the_same_again_and_others_with_another_seed(data):
    first, again, other = (next(fold(data, 3, seed=seed)) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize("over", ["users", "events"])
def test_pooling_is_the_mean_over_users(data, over):
    models = {"popular": Popular(), "knn": ItemKNN(neighbours=10, half_life=0)}
    found = cross_validate(models, data, folds=3, over=over, k=5)
    by_user = {}
    for part in fold(data, 3, over=over):
        row = evaluate({"knn": models["knn"].fit(part)}, part, k=5).rows[0]
        for user, value in zip(row.users_B.tolist(), row.values["ndcg@5"], strict=True):
            by_user.setdefault(user, []).append(value)
    expected = np.mean([np.mean(values) for values in by_user.values()])
    assert found["knn"].metrics["ndcg@5"] == pytest.approx(expected)
    assert len(found["knn"].users_B) == len(by_user)
    assert [pair.model for pair in found.paired(metrics=["ndcg@5"])] == ["knn"]


def test_two_folds_are_too_few(data):
    with pytest.raises(InputError, match="at least 3"):
        next(fold(data, 2))
