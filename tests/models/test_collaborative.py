"""The models of who has what: the contract for each, fold-in, resume, refit and time limits."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import ConfigError, InputError
from leanrec.core.jagged import Jagged
from leanrec.data.cases import distinct
from leanrec.data.prepare import prepare
from leanrec.models import MODELS
from leanrec.models.base import Model
from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine

from .contract import ModelContract
from .worlds import shop

_SMALL = {"dim": 16, "epochs": 20, "batch": 32}


class TestBPRMF(ModelContract):
    model = "bpr-mf"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "batch": 256}


class TestLightGCN(ModelContract):
    model = "lightgcn"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "candidates": 8}


class TestLightGCNBySoftmax(ModelContract):
    model = "lightgcn"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "objective": "softmax", "negatives": 16}


class TestSimpleX(ModelContract):
    model = "simplex"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "negatives": 16}


class TestUltraGCN(ModelContract):
    model = "ultragcn"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "negatives": 16}


NAMES = ("bpr-mf", "lightgcn", "simplex", "ultragcn")


def _small(name: str, **more: Any) -> Model[Any]:
    fixed = {"layers": 2} if name == "lightgcn" else {}
    return MODELS[name](**{"dim": 8, "epochs": 6, "batch": 64, "validate_every": 1, **fixed, **more})


@pytest.mark.parametrize("name", NAMES)
def test_known_users_are_answered_from_their_own_vector(name):
    data = shop()
    fitted = _small(name).fit(data, seed=1)
    users = np.arange(3, dtype=np.int32)
    nobody = Jagged.empty(3)
    hits, degraded_B = fitted.rank(nobody, 5, users=users)
    assert not degraded_B.any() and (hits.items_BK >= 0).all()
    assert fitted.rank(nobody, 5)[1].all()


@pytest.mark.parametrize("user_power", [1.0, 0.6])
def test_lightgcn_folds_in_by_its_own_rule(user_power):
    """A known user's vector is their own row's share and what their history hands on: a row of zeros leaves that."""
    data = shop()
    fitted = _small("lightgcn", layers=3, user_power=user_power).fit(data, seed=1)
    model = MODELS["lightgcn"](dim=8, layers=3, user_power=user_power)
    train = distinct(data.train())
    task = model.task(model.config, train, len(data.items), 1)
    served = model.served(model.config, task, train)
    engine = FactorsEngine(
        FactorsConfig(fold="mean", power=served.power), {"inputs": served.inputs_ND}, served.items_ND
    )
    rest_UD = served.users_UD - task.table.values_MD[: len(train)] / 4
    np.testing.assert_allclose(engine.encode(train), rest_UD, rtol=1e-4, atol=1e-6)
    assert fitted.source.personal


@pytest.mark.parametrize("name", NAMES)
def test_strangers_get_much_the_same_as_known_users(name):
    """Fold-in: the answers to a bare history share more with those to its owner than with another's."""
    data = shop()
    fitted = MODELS[name](dim=8, epochs=30, batch=64).fit(data, seed=1)
    cases = data.cases("valid")
    known, _ = fitted.rank(cases.histories, 10, users=cases.users)
    folded, _ = fitted.rank(cases.histories, 10)

    def shared(one, other):
        return np.mean([len(set(a) & set(b)) for a, b in zip(one.tolist(), other.tolist(), strict=True)])

    assert shared(known.items_BK, folded.items_BK) > shared(known.items_BK, np.roll(folded.items_BK, 1, axis=0)) + 1


@pytest.mark.parametrize("name", ["bpr-mf", "lightgcn"])
def test_a_start_that_answers_is_judged_as_epoch_0(name):
    """It is kept, and refitted without an epoch, where training makes it worse; noise is not worth a validation."""
    told: list[tuple[int, float]] = []
    worse = {"lr": 100.0, "patience": 2}
    fitted = _small(name, **worse).fit(shop(), refit=True, on_score=lambda *said: told.append(said))
    assert [epoch for epoch, _ in told] == [0, 1, 2]
    assert fitted.card["best_epoch"] == 0 and fitted.card["refit"]
    assert fitted.card["validation"] == [score for _, score in told]
    told.clear()
    _small(name, start="noise").fit(shop(), on_score=lambda *said: told.append(said))
    assert told[0][0] == 1


class _Interrupted(Exception):
    pass


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_ends_the_same(name, tmp_path):
    data = shop()
    long = {"patience": 100}  # whatever the first epochs bring on this processor
    whole = _small(name, **long).fit(data, seed=1, refit=True)

    def stop(epoch, score):
        if epoch == 4:
            raise _Interrupted

    with pytest.raises(_Interrupted):
        _small(name, **long).fit(data, seed=1, refit=True, run=tmp_path, save_every=0.0, on_score=stop, track=())
    resumed = _small(name, **long).fit(data, seed=1, refit=True, run=tmp_path, resume=True, track=())
    histories = data.cases("test").histories
    one, other = whole.rank(histories, 5), resumed.rank(histories, 5)
    assert np.array_equal(one[0].scores_BK, other[0].scores_BK)
    with pytest.raises(InputError, match="another configuration"):
        _small(name, dim=4, **long).fit(data, seed=1, refit=True, run=tmp_path, resume=True, track=())


def test_validation_drawn_from_train_is_given_back_for_the_result():
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", "test" if n == 0 else "train") for u in range(30) for n, i in
            enumerate(rng.choice(20, 6, replace=False))]  # fmt: skip
    data = prepare(pl.DataFrame(rows, schema=["user_id", "item_id", "split"], orient="row"), split="column:split")
    assert data.protocol.drawn_valid
    assert _small("simplex").fit(data, seed=1).card["refit"]


def test_time_limit_ends_the_training():
    fitted = _small("bpr-mf", epochs=100_000, patience=100_000).fit(shop(), seed=1, time_limit=0.5)
    assert 0 < fitted.card["epochs"] < 100_000


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("bpr-mf", {"regularisation": -1}, "regularisation must be at least 0, not -1"),
        ("simplex", {"own": 2.0}, "own=2.0 must be from 0 to 1"),
        ("lightgcn", {"temperature": 0.0}, "temperature must be above 0"),
        ("lightgcn", {"objective": "hinge"}, "objective"),
        ("lightgcn", {"user_power": 1.5}, "user_power=1.5 must be from 0 to 1"),
        ("bpr-mf", {"schedule": "cosin"}, "cosine"),
        ("ultragcn", {"neighbours": 0}, "neighbours must be at least 1"),
    ],
)
def test_impossible_settings_are_named(name, wrong, said):
    with pytest.raises(ConfigError, match=said):
        MODELS[name](**wrong)
