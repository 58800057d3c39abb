"""Evaluation end to end against a loop over users, and what Results say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.core.nouns import Queries
from leanrec.data.prepare import prepare
from leanrec.evaluation import evaluate as module
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.metrics import CATALOGUE, PER_USER
from leanrec.models.item_knn import ItemKNN
from leanrec.models.popular import Popular
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.popular import PopularSource

from ..models.worlds import shop
from .test_metrics import brute_force, exposure_oracle


@pytest.fixture(scope="module")
def data():
    return shop()


@pytest.fixture(scope="module")
def models(data):
    return {"knn": ItemKNN(neighbours=20, half_life=0).fit(data), "popular": Popular().fit(data)}


def by_hand(recommender, data, on, k, include_seen):
    """User by user, from the definition of the protocol: leave-one-out without repeats."""
    events, split = data.interactions.items, data.interactions.split
    values, lists = [], []
    for user in range(len(data.users)):
        low, high = events.offsets[user : user + 2]
        items, part = events.values[low:high].tolist(), split[low:high].tolist()
        history = [i for i, p in zip(items, part, strict=True) if p == 0 or (p == 1 and on == "test")]
        targets = {i for i, p in zip(items, part, strict=True) if p == {"valid": 1, "test": 2}[on]}
        if not include_seen:
            targets -= set(history)
        if not targets:
            continue
        scores_N = recommender.source.score(Queries(_rows([history]), 1), _rows([range(len(data.items))]))
        order = [i for i in np.lexsort((np.arange(len(scores_N)), -scores_N)) if scores_N[i] > 0]
        lists.append([int(i) for i in order if include_seen or i not in history][:k])
        values.append(brute_force(lists[-1], targets, k))
    popularity = np.bincount(data.train().values, minlength=len(data.items)).tolist()
    means = {name: np.mean([value[name] for value in values]) for name in PER_USER}
    return len(values), means | exposure_oracle(lists, popularity)


def _rows(rows):
    from leanrec.core.jagged import Jagged

    return Jagged.from_rows(rows)


@pytest.mark.parametrize("on", ["valid", "test"])
@pytest.mark.parametrize("include_seen", [None, True])
def test_all_metrics_equal_a_loop_over_users(data, models, on, include_seen, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 7)
    found = evaluate(models["knn"], data, on=on, k=[5, 3], include_seen=include_seen)
    assert [row.model for row in found] == ["item-knn"]
    for k in (3, 5):
        users, expected = by_hand(models["knn"], data, on, k, bool(include_seen))
        assert len(found.rows[0].users_B) == users
        assert {name: found.rows[0].metrics[f"{name}@{k}"] for name in expected} == pytest.approx(expected)


def test_shape_of_the_json(data, models):
    found = evaluate(models, data, k=10)
    plain = json.loads(json.dumps(found.to_dict()))
    assert [result["model"] for result in plain["results"]] == ["knn", "popular"]
    for result, row in zip(plain["results"], found, strict=True):
        assert (result["on"], result["users"]) == ("test", len(row.users_B))
        assert set(result["metrics"]) == {f"{name}@10" for name in [*PER_USER, *CATALOGUE]}
        assert set(result["interval"]) == {f"{name}@10" for name in PER_USER}
        for name, (low, high) in result["interval"].items():
            assert 0 <= low <= result["metrics"][name] <= high <= 1
            assert result["metrics"][name] == row.values[name].mean()
    assert {(p["model"], p["baseline"]) for p in plain["paired"]} == {("popular", "knn")}
    assert {p["metric"] for p in plain["paired"]} == set(found.rows[0].values)
    assert plain["intervals"].startswith("bootstrap")


def test_pairs_name_the_better_model(data, models):
    found = evaluate(models, data, k=10)
    (pair,) = found.paired("popular", ["ndcg@10"])
    assert (pair.model, pair.baseline, pair.verdict) == ("knn", "popular", "better")
    assert pair.difference == pytest.approx(found["knn"].metrics["ndcg@10"] - found["popular"].metrics["ndcg@10"])
    with pytest.raises(InputError, match=r"no model 'populr' .*did you mean 'popular'"):
        found.paired("populr")
    with pytest.raises(InputError, match=r"no values per user of 'coverage@10'"):
        found.paired(metrics=["coverage@10"])


def test_the_text_shows_every_model_and_what_is_sure(data, models):
    text = str(evaluate(models, data, k=(5, 10)))
    for part in ("knn", "popular", "ndcg@5", "recall@10", "coverage@10", "95 % intervals", "popular is worse than knn"):
        assert part in text


def test_models_come_alone_in_lists_in_dicts_and_as_paths(data, models, tmp_path):
    models["popular"].save(tmp_path / "bundle")
    alone = evaluate(models["popular"], data, k=5)
    listed = evaluate([models["popular"], models["popular"], str(tmp_path / "bundle")], data, k=5)
    assert [row.model for row in listed] == ["popular", "popular (2)", str(tmp_path / "bundle")]
    assert len(listed) == 3
    for row in listed:
        assert row.metrics == alone.rows[0].metrics


def test_users_who_tune_and_certify_are_apart(data, models):
    tune, certify, everyone = (evaluate(models["popular"], data, users=u).rows[0] for u in ("tune", "certify", "all"))
    assert not set(tune.users_B) & set(certify.users_B)
    assert sorted([*tune.users_B, *certify.users_B]) == everyone.users_B.tolist()
    assert data.certify[certify.users_B].all()


def test_a_model_with_another_vocabulary_is_asked_in_its_own_rows(data, models):
    """The same popularity in another order of rows, without two items, and with one the data does not know."""
    ids = data.items.ids()
    order = [i for i in reversed(range(len(ids))) if i not in (3, 4)]
    scores_N = models["popular"].source.scores_N
    source = PopularSource("popular", np.append(scores_N[order], np.float32(1e6)).astype(np.float32))
    other = Recommender(source, Vocabulary([*[ids[i] for i in order], "elsewhere"]), repeats=False)
    found = evaluate(other, data, k=4).rows[0]
    assert found.notes == [f"2 of {len(ids)} items are unknown to the model"]
    cases = data.cases("test")
    expected = []
    for history, targets in zip(cases.histories, cases.targets, strict=True):
        ranked = sorted(order, key=lambda i: (-scores_N[i], order.index(i)))
        top = [-1, *[i for i in ranked if i not in history]][:4]
        expected.append(brute_force(top, set(targets.tolist()), 4)["ndcg"])
    assert found.values["ndcg@4"].tolist() == pytest.approx(expected)


def test_k_beyond_the_catalogue(data, models):
    found = evaluate(models["popular"], data, k=1000).rows[0].metrics
    assert found["recall@1000"] == 1.0
    assert found["precision@1000"] == pytest.approx(1 / 1000)


def test_what_cannot_be_evaluated_is_said(data, models):
    with pytest.raises(InputError, match="at least 1, not 0"):
        evaluate(models["popular"], data, k=0)
    with pytest.raises(InputError, match="say for example k=10"):
        evaluate(models["popular"], data, k=())
    empty = prepare({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1e9, 1e9]}, name="tiny")
    with pytest.raises(InputError, match="tiny has nobody to evaluate on valid"):
        evaluate(Popular().fit(empty), empty, on="valid")


def test_users_without_a_history_are_counted():
    held_out = shop(split="users:0.6,0.2,0.2")
    found = evaluate(Popular().fit(held_out), held_out).rows[0]
    histories = held_out.cases("test").histories.lengths
    expected = [f"{(histories == 0).sum()} users got popular items: the model knows nothing of their history"]
    assert found.notes == (expected if (histories == 0).any() else [])
    empty = Recommender(PopularSource("p", np.ones(1, np.float32)), Vocabulary(["elsewhere"]), repeats=False)
    everyone = len(histories)
    assert evaluate(empty, held_out).rows[0].notes[1].startswith(f"{everyone} users got popular items")
