"""Several models as one: the contract for each merge, parts that are resumed, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from leanrec.cli.main import run
from leanrec.core.errors import ConfigError, InputError
from leanrec.core.nouns import Request
from leanrec.data.prepare import prepare
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.metrics import parse_metric
from leanrec.models import MODELS
from leanrec.models.hybrid import Hybrid
from leanrec.models.merging import choose_weights, gather_judged
from leanrec.runtime.merging.fixed import Weighted
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.hybrid import HybridSource

from .contract import ModelContract
from .worlds import shop

_TINY = {"model": "sasrec", "dim": 8, "layers": 1, "heads": 1, "epochs": 2, "max_length": 10, "negatives": 8}


class TestHybridOfThree(ModelContract):
    model = "hybrid"
    settings = {"sources": [_TINY, "item-knn", "popular"], "merge": "rrf", "depth": 20}  # noqa: RUF012


class TestHybridLearned(ModelContract):
    model = "hybrid"
    settings = {  # noqa: RUF012
        "sources": ["item-knn", "popular"], "merge": "learned", "ranker": "linear", "depth": 20,
        "fallback": ["popular-recent", "popular"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def repeated():
    return shop(repeats=True, split="time:0.7,0.15,0.15")


@pytest.fixture(scope="module")
def stored(repeated, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shop"
    repeated.save(path)
    return path


def test_every_merge_and_reranker_serves_from_its_bundle(repeated, tmp_path):
    rerank = ["mmr", {"kind": "caps", "column": "category", "at_most": 3}, {"kind": "block", "items": ["item0"]}]
    for merge, ranker in (("rrf", None), ("weighted", None), ("learned", "linear"), ("learned", "trees")):
        model = Hybrid(sources=["item-knn", "popular"], merge=merge, ranker=ranker, rerank=rerank, depth=15)
        fitted = model.fit(repeated, seed=1)
        fitted.save(tmp_path / f"{merge}-{ranker}")
        histories = repeated.cases("test").histories
        before, after = (
            one.rank(histories, 6)[0] for one in (fitted, Recommender.load(tmp_path / f"{merge}-{ranker}"))
        )
        assert np.array_equal(before.items_BK, after.items_BK) and np.array_equal(before.scores_BK, after.scores_BK)
        assert repeated.items.row("item0") not in before.items_BK
        assert fitted.card["config"]["merge"] == merge and len(fitted.card["config"]["parts"]) == 2


def test_fitting_looks_at_users_that_tune_alone(repeated):
    fitted = Hybrid(sources=["item-knn", "popular"], merge="rrf").fit(repeated)
    judged = gather_judged(fitted.source, repeated)
    cases = repeated.cases("valid", "tune")
    some = cases.histories.lengths > 0
    assert len(judged) == some.sum()
    expected = [row.tolist() for row, kept in zip(cases.targets, some, strict=True) if kept]
    assert [row.tolist() for row in judged.targets] == expected


def test_weights_are_those_that_judge_best(repeated):
    fitted = Hybrid(sources=["item-knn", "popular"], merge="rrf").fit(repeated)
    judged, metric = gather_judged(fitted.source, repeated), parse_metric("ndcg@10")
    weights = choose_weights(judged, metric)
    best = judged.judge(judged.scores(Weighted(weights)), metric)
    for other in ([1, 1], [1, 0], [0, 1], [0.25, 1]):
        assert best >= judged.judge(judged.scores(Weighted(other)), metric)
    assert weights.sum() == pytest.approx(1)


def test_a_run_goes_on_with_the_part_at_which_it_stopped(repeated, tmp_path, monkeypatch):
    sources = [_TINY, "item-knn"]
    whole = Hybrid(sources=sources, merge="rrf").fit(repeated, seed=2, refit=True, run=tmp_path / "whole", track=())
    knn = MODELS["item-knn"]

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(knn, "fit_with", stop)
        with pytest.raises(KeyboardInterrupt):
            Hybrid(sources=sources, merge="rrf").fit(repeated, seed=2, refit=True, run=tmp_path / "cut", track=())
    with monkeypatch.context() as patched:
        patched.setattr(MODELS["sasrec"], "fit_with", stop)  # must not be asked again
        resumed = Hybrid(sources=sources, merge="rrf").fit(
            repeated, seed=2, refit=True, run=tmp_path / "cut", resume=True, track=()
        )
    assert resumed.id == whole.id


def test_refit_parts_learn_validation_and_the_merge_does_not(repeated, tmp_path):
    model = Hybrid(sources=[_TINY, "popular"], merge="weighted")
    fitted = model.fit(repeated, refit=True, run=tmp_path, track=())
    searched = Recommender.load(tmp_path / "parts" / "1-popular" / "searched")
    counts = {
        refit: np.bincount(repeated.train(refit).values, minlength=len(repeated.items)) for refit in (False, True)
    }
    assert searched.source.scores_N.tolist() == counts[False].tolist()
    assert fitted.source.sources[1].scores_N.tolist() == counts[True].tolist()
    assert not Recommender.load(tmp_path / "parts" / "0-sasrec" / "searched").card["refit"]
    assert Recommender.load(tmp_path / "parts" / "0-sasrec" / "final").card["refit"]


def test_validation_that_was_drawn_from_train_is_given_back(tmp_path):
    """A split column without `valid`: the merge is fitted to drawn events, the parts learn them in the end."""
    events = [(f"u{n % 9}", f"i{(n * n) % 13}", n, "test" if n > 80 else "train") for n in range(90)]
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp", "split"], orient="row")
    data = prepare(frame, split="column:split", repeats=True)
    assert data.protocol.drawn_valid
    fitted = Hybrid(sources=["popular"], merge="weighted").fit(data)
    assert fitted.card["refit"] and fitted.source.sources[0].scores_N.sum() == 81


def test_parts_are_not_shared_out_to_workers(repeated):
    with pytest.raises(ConfigError, match="one by one"):
        Hybrid().fit(repeated, distributed=True)


def test_parts_may_be_bundles_that_are_there(repeated, tmp_path):
    for name, refit in (("plain", False), ("refit", True)):
        MODELS["popular"]().fit(repeated, refit=refit).save(tmp_path / name)
    fitted = Hybrid(sources=["item-knn", str(tmp_path / "plain")]).fit(repeated)
    assert [source.name for source in fitted.source.sources] == ["item-knn", "popular"]
    with pytest.raises(ConfigError, match="trained on validation events too"):
        Hybrid(sources=[str(tmp_path / "refit")]).fit(repeated)
    with pytest.raises(InputError, match="was not made from this data set"):
        Hybrid(sources=[str(tmp_path / "plain")]).fit(shop())


def test_sources_of_one_name_are_told_apart(repeated):
    fitted = Hybrid(sources=["popular", {"model": "popular"}], merge="rrf").fit(repeated)
    assert fitted.source.brings[:2] == ("popular", "popular (2)")


def test_a_learned_merge_beats_its_parts(repeated):
    """Half of what is bought in this shop was bought before by the same user, which neither part looks at alone."""
    fitted = Hybrid(sources=["item-knn", "popular"], merge="learned", ranker="linear", depth=40).fit(repeated)
    parts = {source.name: Recommender(source, repeated.items, repeats=True) for source in fitted.source.sources}
    found = evaluate({"hybrid": fitted, **parts}, repeated, on="test", k=5)
    assert found["hybrid"].metrics["ndcg@5"] >= found["popular"].metrics["ndcg@5"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": ["item-kn"]}, "did you mean 'item-knn'"),
        ({"sources": [{"neighbours": 3}]}, "does not say which model"),
        ({"sources": [{"model": "item-knn", "neighbors": 3}]}, "did you mean 'neighbours'"),
        ({"sources": []}, "at least one source"),
        ({"merge": "vote"}, "vote"),
        ({"weights": [1.0]}, "weights for 2 sources"),
        ({"weights": [1.0, 1.0]}, "weights are for"),
        ({"rerank": ["mrr"]}, "did you mean 'mmr'"),
        ({"rerank": [{"kind": "mmr", "diversty": 1}]}, "did you mean 'diversity'"),
        ({"fallback": ["nothing"]}, "neither a model"),
        ({"depth": 0}, "depth must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_before_training(settings, message):
    with pytest.raises(ConfigError, match=message):
        Hybrid(**settings)


def test_a_merge_needs_judges():
    data = shop(split="ratio:0.9,0.0,0.1")
    with pytest.raises(ConfigError, match="use rrf"):
        Hybrid(merge="learned").fit(data)
    assert Hybrid().fit(data).card["config"]["merge"] == "rrf"


def test_the_command_line_trains_and_answers(stored, tmp_path, capfd):
    config = tmp_path / "hybrid.toml"
    config.write_text('sources = ["item-knn", {model = "popular"}]\nrerank = [{kind = "mmr", diversity = 0.2}]\n')
    out = str(tmp_path / "run")
    asked = ["train", "hybrid", "--data", str(stored), "--out", out, "--config", str(config)]
    asked += ["--set", "depth=30", "--set", "merge=weighted"]
    assert run([*asked, "--json"]) == 0
    told = msgspec.json.decode(capfd.readouterr().out.splitlines()[-1])
    assert told["card"]["config"]["sources"][0] == "item-knn" and told["card"]["config"]["depth"] == 30
    found = Recommender.load(out)
    assert isinstance(found.source, HybridSource) and isinstance(found.source.merge, Weighted)
    assert set(found.answer([Request(user_id="user0", k=5)])[0].sources) <= set(found.source.brings)
    assert run([*asked, "--resume"]) == 0
