"""Baselines on real interactions: plausible numbers, and the order of models that anybody in the field expects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leanrec.data.prepare import prepare
from leanrec.evaluation.evaluate import evaluate
from leanrec.models.item_knn import ItemKNN
from leanrec.models.popular import Popular, PopularRecent

DATA = Path(os.environ.get("LEANREC_BENCH_DATA") or Path(__file__).parents[2].parent / "shared" / "data")


def judged(name: str, **options):
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not in {DATA}: set LEANREC_BENCH_DATA to the folder that holds it")
    data = prepare(DATA / name, **options)
    models = [model.fit(data, refit=True) for model in (ItemKNN(), Popular(), PopularRecent())]
    return data, evaluate(models, data, k=10)


def test_films():
    """MovieLens small, leave-one-out: neighbours beat popularity, clearly."""
    data, found = judged("ml-latest-small")
    assert not data.protocol.repeats
    assert 0.07 < found["item-knn"].metrics["recall@10"] < 0.15
    assert 0.03 < found["popular"].metrics["recall@10"] < 0.07
    assert found.paired("popular", ["ndcg@10"])[0].verdict == "better"


def test_a_shop_by_time():
    """Online Retail, global time split: what sold last week beats what sold most, and neighbours beat both."""
    data, found = judged("online-retail", split="time:0.8,0.1,0.1")
    assert data.protocol.repeats
    by_model = {pair.model: pair for pair in found.paired("popular", ["ndcg@10"])}
    assert by_model["popular-recent"].verdict == by_model["item-knn"].verdict == "better"
    assert found["item-knn"].metrics["ndcg@10"] > 0.2
    assert 0.05 < found["popular"].metrics["ndcg@10"] < 0.1
