"""What every model promises. A model's tests inherit all of it:

    class TestPopular(ModelContract):
        model = "popular"

`settings` make it small and quick; `shop` of worlds.py is what it learns from.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest

from leanrec.core.config import build, to_dict
from leanrec.core.errors import ConfigError, InputError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries, Request
from leanrec.data.dataset import Dataset
from leanrec.evaluation.evaluate import evaluate
from leanrec.models import MODELS
from leanrec.models.base import Model
from leanrec.runtime.recommender import Recommender

from .worlds import NEWCOMERS, shop

_WITHOUT_TORCH = """
import json, sys
from leanrec.core.nouns import Request
from leanrec.runtime.recommender import Recommender
found = Recommender.load(sys.argv[1]).answer([Request(history=json.loads(sys.argv[2]), k=5)])[0]
print(json.dumps({"ids": list(found.item_ids), "torch": "torch" in sys.modules}))
"""


@cache
def _data() -> Dataset:
    return shop()


class ModelContract:
    """Inherit, name the model, and give settings that fit in a second or two."""

    model: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls) -> Dataset:
        return _data()

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, data: Dataset) -> Recommender:
        return cls.make().fit(data, seed=1)

    @pytest.fixture(scope="class")
    @classmethod
    def saved(cls, fitted: Recommender, tmp_path_factory: pytest.TempPathFactory) -> str:
        path = tmp_path_factory.mktemp("bundles") / "bundle"
        fitted.save(path)
        return str(path)

    @classmethod
    def make(cls, **overrides: Any) -> Model[Any]:
        return MODELS[cls.model](**{**cls.settings, **overrides})

    @staticmethod
    def histories(data: Dataset) -> Jagged:
        return data.cases("test").histories

    def test_answers_are_sorted_distinct_and_known(self, data, fitted):
        hits, degraded_B = fitted.rank(self.histories(data), 10)
        assert not degraded_B.any()
        for items_K, scores_K in zip(hits.items_BK, hits.scores_BK, strict=True):
            found = items_K >= 0
            assert found[0] and np.array_equal(found, np.sort(found)[::-1])
            items_K, scores_K = items_K[found], scores_K[found]
            assert len(set(items_K.tolist())) == len(items_K) and items_K.max() < len(data.items)
            assert np.isfinite(scores_K).all()
            assert np.array_equal(np.lexsort((items_K, -scores_K)), np.arange(len(items_K)))

    def test_beats_chance(self, data, fitted):
        """Full ranking, so that a broken wiring shows: chance has a recall of k / items."""
        recall = evaluate(fitted, data, on="test", k=10).rows[0].metrics["recall@10"]
        assert recall > 10 / len(data.items)

    def test_unseen_item_in_training(self, data, fitted):
        row = data.items.row(NEWCOMERS[0])
        assert row >= 0 and row not in data.train().values
        usual = np.flatnonzero(np.bincount(data.train().values, minlength=len(data.items)))[:2]
        hits, _ = fitted.rank(Jagged.from_rows([[row], [row, *usual], [*usual, row]]), 5)
        assert (hits.items_BK[:, 0] >= 0).all()
        assert np.isfinite(hits.scores_BK[hits.items_BK >= 0]).all()
        assert fitted.answer([Request(history=[NEWCOMERS[0]], k=5)])[0].item_ids

    def test_empty_history_is_answered_and_degraded(self, data, fitted):
        histories = Jagged.from_rows([[], self.histories(data)[0], []])
        hits, degraded_B = fitted.rank(histories, 5)
        assert degraded_B.tolist() == [True, False, True]
        assert (hits.items_BK[[0, 2]] >= 0).all()
        assert np.array_equal(hits.items_BK[0], hits.items_BK[2])
        assert fitted.answer([Request(user_id="nobody", k=5)])[0].degraded

    def test_batch_equals_single(self, data, fitted):
        histories = self.histories(data).slice(0, 20)
        together, _ = fitted.rank(histories, 10)
        backwards, _ = fitted.rank(histories.take(np.arange(19, -1, -1)), 10)
        _assert_same(together, Hits(backwards.items_BK[::-1], backwards.scores_BK[::-1]))
        for row in range(20):
            alone, _ = fitted.rank(histories.slice(row, row + 1), 10)
            _assert_same(alone, Hits(together.items_BK[row : row + 1], together.scores_BK[row : row + 1]))

    def test_longer_lists_begin_with_shorter_ones(self, data, fitted):
        short, _ = fitted.rank(self.histories(data), 3)
        long, _ = fitted.rank(self.histories(data), 12)
        assert np.array_equal(short.items_BK, long.items_BK[:, :3])

    def test_saved_and_loaded_is_equal(self, data, fitted, saved):
        loaded = Recommender.load(saved)
        before, degraded_before = fitted.rank(self.histories(data), 10)
        after, degraded_after = loaded.rank(self.histories(data), 10)
        assert np.array_equal(before.items_BK, after.items_BK)
        assert np.array_equal(before.scores_BK, after.scores_BK)
        assert np.array_equal(degraded_before, degraded_after)
        assert loaded.id == fitted.id and loaded.repeats == fitted.repeats
        assert loaded.card["model"] == self.model

    def test_k_larger_than_the_catalogue(self, data, fitted):
        hits, _ = fitted.rank(self.histories(data).slice(0, 5), len(data.items) + 7, include_seen=True)
        assert hits.items_BK.shape == (5, len(data.items) + 7)
        assert (hits.items_BK[:, len(data.items) :] == -1).all()
        assert (hits.scores_BK[hits.items_BK < 0] == -np.inf).all()
        for row in hits.items_BK:
            assert len(set(row[row >= 0].tolist())) == (row >= 0).sum()

    def test_excluded_items_never_come(self, data, fitted):
        histories = self.histories(data)
        best, _ = fitted.rank(histories, 4)
        exclude = Jagged.from_rows([row[row >= 0] for row in best.items_BK])
        rest, _ = fitted.rank(histories, len(data.items), exclude=exclude)
        assert all(not set(a.tolist()) & set(b.tolist()) for a, b in zip(rest.items_BK, exclude, strict=True))

    def test_include_seen_is_honoured(self, data, fitted):
        histories = self.histories(data)
        everything = len(data.items)
        fresh, _ = fitted.rank(histories, everything, include_seen=False)
        both, _ = fitted.rank(histories, everything, include_seen=True)
        default, _ = fitted.rank(histories, everything)
        seen_again = 0
        for history, without, with_seen in zip(histories, fresh.items_BK, both.items_BK, strict=True):
            assert not set(without.tolist()) & set(history.tolist())
            seen_again += bool(set(with_seen.tolist()) & set(history.tolist()))
        assert seen_again == len(histories)
        assert np.array_equal(default.items_BK, (both if data.protocol.repeats else fresh).items_BK)

    def test_filter_is_respected(self, data, fitted):
        requests = [Request(history=data.items.ids(h), k=6, filter={"category": ["odd"]}) for h in self.histories(data)]
        category = dict(data.attributes.select("item_id", "category").iter_rows())
        for ranking in fitted.answer(requests[:10]):
            assert ranking.item_ids and {category[item] for item in ranking.item_ids} == {"odd"}
        with pytest.raises(InputError, match="category"):
            fitted.answer([Request(history=[NEWCOMERS[0]], filter={"categry": ["odd"]})])

    def test_scores_are_those_of_the_ranking(self, data, fitted):
        histories = self.histories(data).slice(0, 10)
        hits, _ = fitted.rank(histories, 5)
        found = Jagged.from_rows([row[row >= 0] for row in hits.items_BK])
        scores_T = fitted.source.score(Queries(histories, 1), found)
        assert np.array_equal(scores_T, hits.scores_BK[hits.items_BK >= 0])

    def test_similar_items_leave_out_the_item_itself(self, data, fitted):
        ranking = fitted.similar("item0", 5)
        assert ranking.item_ids and "item0" not in ranking.item_ids
        assert list(ranking.scores) == sorted(ranking.scores, reverse=True)

    def test_unknown_item_is_refused(self, fitted):
        with pytest.raises(InputError, match="'no such item'"):
            fitted.answer([Request(history=["no such item"])])

    def test_deterministic_under_a_seed(self, data, fitted):
        again = self.make().fit(data, seed=1)
        first, _ = fitted.rank(self.histories(data), 10)
        second, _ = again.rank(self.histories(data), 10)
        assert np.array_equal(first.items_BK, second.items_BK)
        assert np.array_equal(first.scores_BK, second.scores_BK)

    def test_config_goes_through_json(self):
        model = self.make()
        plain = json.loads(json.dumps(to_dict(model.config)))
        assert build(type(model).Config, plain) == model.config
        assert type(model)(**plain).config == model.config

    def test_unknown_setting_names_the_nearest(self):
        known = [*to_dict(self.make().config)]
        with pytest.raises(ConfigError, match=f"{self.model}: unknown key") as caught:
            self.make(**{f"{known[0]}x" if known else "anything": 1})
        assert not known or f"did you mean {known[0]!r}" in str(caught.value)

    def test_bundle_answers_without_torch(self, data, fitted, saved):
        history = data.items.ids(self.histories(data)[0])
        done = subprocess.run(
            [sys.executable, "-c", _WITHOUT_TORCH, saved, json.dumps(history)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told == {"ids": list(fitted.answer([Request(history=history, k=5)])[0].item_ids), "torch": False}


def _assert_same(one: Hits, other: Hits) -> None:
    """The same items; scores equal up to what the size of a batch does to rounding."""
    assert np.array_equal(one.items_BK, other.items_BK)
    np.testing.assert_allclose(one.scores_BK, other.scores_BK, rtol=1e-5, atol=1e-6)
