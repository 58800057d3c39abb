"""Cross-validation: every row judges once, users stay together, a path of penalties is compared."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.errors import ConfigError
from leanrec.data.examples.base import USER
from leanrec.data.examples.events import examples_of
from leanrec.models.folds import _folds, compare_settings

from .test_ctr import rated


def test_users_stay_together_and_folds_are_even():
    examples = examples_of(rated(), "value>=2")
    count = examples.rows("train")
    fold_B = _folds(examples, count, 4, "users", 0)
    users = np.concatenate([frame[USER].to_numpy() for frame in examples.batches("train", 50, [USER])])
    assert all(len(np.unique(fold_B[users == user])) == 1 for user in np.unique(users))
    by_rows = np.bincount(_folds(examples, count, 4, "rows", 0), minlength=4)
    assert by_rows.sum() == count and by_rows.max() - by_rows.min() <= 1


@pytest.mark.parametrize("by", ["rows", "users"])
def test_a_path_of_penalties_has_a_best_between_its_ends(by):
    path = [{"l2": l2} for l2 in (1e-3, 3.0, 1e5)]
    found = compare_settings("linear", examples_of(rated(), "value>=2"), path, folds=4, by=by)
    assert [one.settings for one in found] == path and all(len(one.auc_K) == 4 for one in found)
    assert found.best.settings == {"l2": 3.0} or by == "users"
    assert "l2=3.0" in str(found)
    again = compare_settings("linear", examples_of(rated(), "value>=2"), path, folds=4, by=by)
    assert str(again) == str(found)


def test_models_of_events_are_refused():
    examples = examples_of(rated(), "value>=2")
    with pytest.raises(ConfigError, match="popular learns from events"):
        compare_settings("popular", examples)
    with pytest.raises(ConfigError, match="at least 3"):
        compare_settings("linear", examples, folds=2)
