"""Models of labelled rows: the contract for each, the two forms of a linear model, what torch and NumPy say."""

from __future__ import annotations

from functools import cache
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from leanrec.core.errors import ConfigError, InputError
from leanrec.core.nouns import Request
from leanrec.data.dataset import Dataset
from leanrec.data.examples.events import examples_of
from leanrec.data.prepare import prepare
from leanrec.evaluation.binary import auc
from leanrec.features.space import FeatureSpace
from leanrec.features.stacked import Stacked
from leanrec.kernels.least_squares import ridge_reference
from leanrec.models.deepfm import DeepFM
from leanrec.models.fm import FM
from leanrec.models.gbdt import tree_arrays
from leanrec.models.linear import ridge
from leanrec.models.logistic import Logistic
from leanrec.models.multi_task import MultiTask
from leanrec.models.scoring import Learning, default_label
from leanrec.runtime.engines.trees import TreeEngine, tree_inputs
from leanrec.training.judging import raw_scores
from leanrec.training.labelled import Labelled, balanced, encode

from .contract import ModelContract
from .worlds import shop

SMALL: dict[str, Any] = {"epochs": 4, "dim": 4, "widths": (16,), "batch": 128, "lr": 0.01, "negatives": 2}


class TestLinear(ModelContract):
    model = "linear"


class TestLogistic(ModelContract):
    model = "logistic"
    settings = {"passes": 3}  # noqa: RUF012


class TestGBDT(ModelContract):
    model = "gbdt"
    settings = {"trees": 30, "min_rows": 5}  # noqa: RUF012


class TestFM(ModelContract):
    model = "fm"
    settings = SMALL


class TestDNN(ModelContract):
    model = "dnn"
    settings = SMALL


class TestWideDeep(ModelContract):
    model = "wide-deep"
    settings = SMALL


class TestDeepFM(ModelContract):
    model = "deepfm"
    settings = SMALL


class TestDCNv2(ModelContract):
    model = "dcnv2"
    settings = SMALL


class TestDCNv2Mixture(ModelContract):
    model = "dcnv2"
    settings = {**SMALL, "rank": 3, "experts": 2}  # noqa: RUF012


class TestDLRM(ModelContract):
    model = "dlrm"
    settings = SMALL


class TestFinalNet(ModelContract):
    model = "finalnet"
    settings = SMALL


class TestDIN(ModelContract):
    model = "din"
    settings = {**SMALL, "history": 8, "attention": 8}  # noqa: RUF012


class TestMultiTask(ModelContract):
    model = "multi-task"
    settings = {**SMALL, "labels": {"click": "value>=2", "conversion": "value>=3"}}  # noqa: RUF012

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls) -> Dataset:
        return rated()


class TestLogisticOfRatings(ModelContract):
    model = "logistic"
    settings = {"passes": 3}  # noqa: RUF012

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls) -> Dataset:
        return rated()


@cache
def rated() -> Dataset:
    """The shop's events with values from 1 to 3: what is of the user's taste is liked, by chance at times not."""
    shop_ = shop()
    rng = np.random.default_rng(3)
    rows = []
    for user, items in zip(shop_.users.ids(), shop_.interactions.items, strict=True):
        for place, item in enumerate(shop_.items.ids(items)):
            likes = (int(item.removeprefix("item").removeprefix("new")) % 5 < 3) ^ (rng.random() < 0.15)
            rows.append((user, item, 1.6e9 + 86_400 * place, float(rng.integers(2, 4) if likes else 1)))
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "value"], orient="row")
    assert shop_.attributes is not None
    return prepare(events, items=shop_.attributes, split="leave-one-out", repeats=False, name="shop")


def rows_of(data: Dataset, label: str = "value>=2") -> tuple[Labelled, Labelled]:
    examples = examples_of(data, label)
    space = FeatureSpace.fit(examples)
    return encode(space, examples, "train"), encode(space, examples, "valid")


def test_the_default_label_comes_from_the_values():
    assert default_label(rated()) == "value>=2"
    assert default_label(shop()) == "implicit"


def test_the_two_forms_of_a_linear_model_agree_and_are_least_squares():
    train, _ = rows_of(rated())
    stacked = Stacked.of(train.batch.layout)
    rows, values = stacked.sparse(train.batch)
    labels = train.labels_BT[:, 0].astype(np.float64)
    path = [30.0, 1.0]
    closed, gradient = ridge(train, path, "closed"), ridge(train, path, "gradient")
    dense = np.zeros((len(train), stacked.total))
    np.add.at(dense, (rows.row_of(), rows.values), values.astype(np.float64))
    for one, other, l2 in zip(closed, gradient, path, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)
        np.testing.assert_allclose(one, ridge_reference(dense, labels, l2), atol=1e-8)


def test_logistic_comes_close_to_the_optimum_of_its_likelihood():
    """FTRL's l2 counts once for all passes: after P of them it is scikit-learn's with C = P / l2."""
    train, _ = rows_of(rated())
    passes, l2 = 200, 100.0
    model = Logistic(passes=passes, patience=passes, l2=l2, alpha=0.5)
    learned = model.learn(train, train.take(np.arange(0)), Learning(seed=0))
    stacked = Stacked.of(train.batch.layout)
    rows, values = stacked.sparse(train.batch)
    matrix = csr_matrix((values, rows.values, rows.offsets), shape=(len(train), stacked.total))
    oracle = LogisticRegression(C=passes / l2, max_iter=5000, tol=1e-8).fit(matrix, train.labels_BT[:, 0])
    found = raw_scores(learned.engine, train.batch)
    assert np.corrcoef(found, oracle.decision_function(matrix))[0, 1] > 0.995
    assert abs(auc(train.labels_BT[:, 0], found) - auc(train.labels_BT[:, 0], oracle.decision_function(matrix))) < 0.003


def test_l1_makes_weights_zero():
    train, valid = rows_of(rated())
    shares = [Logistic(l1=l1, l2=1.0).learn(train, valid, Learning(0)).facts["zero_weights"] for l1 in (0.0, 1.0, 20.0)]
    assert shares == sorted(shares) and shares[0] < 0.3 < shares[-1]


def test_trees_score_as_lightgbm_does():
    train, valid = rows_of(rated())
    columns, labels = tree_inputs(train.batch), train.labels_BT[:, 0]
    booster = lightgbm.train(
        {"objective": "binary", "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, "max_cat_to_onehot": 1},
        lightgbm.Dataset(columns, labels, categorical_feature=[0, 1, 2, 3]), 20,
    )  # fmt: skip
    arrays = tree_arrays(booster.dump_model())
    assert len(arrays["sets"]) and (arrays["feature"] > 3).any()
    found = TreeEngine.load({}, arrays, train.batch.layout).raw(valid.batch)[:, 0]
    np.testing.assert_allclose(found, booster.predict(tree_inputs(valid.batch), raw_score=True), rtol=1e-6)


@pytest.mark.parametrize("how", ["weights", "undersample", "oversample"])
def test_a_rare_label_is_balanced_and_probabilities_stay_true(how):
    data = rated()
    settings_ = {**SMALL, "label": "value>=3", "balance": how, "calibration": "none", "epochs": 10}
    source = DeepFM(**settings_).fit(data).source
    plain = DeepFM(**{**settings_, "balance": "none"}).fit(data).source
    examples = examples_of(data, "value>=3")
    train = encode(source.tables.space, examples, "train")
    means = [float(one.calibrator(one.raw(train.batch)).mean()) for one in (source, plain)]
    share = train.labels_BT.mean()
    assert abs(means[0] - share) < 0.12 and abs(means[1] - share) < 0.12
    even, shift = balanced(train, how, seed=0)
    weights = np.ones(len(even)) if even.weights_B is None else even.weights_B
    assert abs(np.average(even.labels_BT[:, 0], weights=weights) - 0.5) < 0.01
    assert shift == pytest.approx(np.log(train.labels_BT.sum() / (len(train) - train.labels_BT.sum())))


def test_refit_keeps_the_length_and_learns_from_validation():
    fitted = DeepFM(**SMALL, label="value>=2").fit(rated(), refit=True)
    assert fitted.card["refit"] and fitted.card["validation"]["auc"] > 0.5
    assert fitted.card["task"] == "ctr" and fitted.card["config"]["label"] == "value>=2"


def test_gates_rank_the_fields():
    card = FM(**SMALL, label="value>=2", gates=True, gate_l1=1e-3).fit(rated()).card
    assert set(card["gates"]) >= {"user_id", "item_id", "category"}


def test_the_situation_and_unknown_users_count():
    fitted = DeepFM(**SMALL, label="value>=2").fit(rated())
    items = [["item1", "item2"]] * 3
    asked = [Request(user_id="user1"), Request(user_id="nobody"), Request(user_id="user1", context={"timestamp": None})]
    known, unknown, said_nothing = fitted.score(asked, items)
    assert known == said_nothing != unknown
    assert all(0 <= one <= 1 for one in [*known, *unknown])


def test_the_same_label_everywhere_is_refused():
    with pytest.raises(InputError, match="same label"):
        FM(label="value>=0").fit(rated())
    with pytest.raises(ConfigError, match="two labels"):
        MultiTask().fit(rated())
    with pytest.raises(ConfigError, match="dropout must be at least 0 and below 1"):
        FM(dropout=1.5)


def test_logistic_goes_on_with_new_events():
    data, fitted = rated(), None
    model = Logistic(label="value>=2", passes=3)
    fitted = model.fit(data)
    fresh = pl.DataFrame(
        {
            "user_id": ["user1"] * 6 + ["newcomer"] * 6,
            "item_id": [f"item{n}" for n in (0, 2, 4, 6, 8, 41)] * 2,
            "value": [3.0, 1.0, 3.0, 1.0, 3.0, 1.0] * 2,
            "timestamp": [1.7e9 + n for n in range(12)],
        }
    )
    more = model.partial_fit(fitted, prepare(fresh, split="leave-one-out", repeats=False, name="more"))
    assert more.users is not None and more.users.ids()[: len(data.users)] == data.users.ids()
    assert more.users.row("newcomer") >= 0 and more.items.row("item41") == len(data.items)
    old, new = (
        [one for (one,) in r.score([Request(user_id="user1")] * 2, [["item4"], ["item6"]])] for r in (fitted, more)
    )
    assert new[0] - old[0] > new[1] - old[1]
    assert more.answer([Request(user_id="newcomer", k=3)])[0].item_ids
    again = model.partial_fit(more, prepare(fresh, split="leave-one-out", repeats=False, name="more"))
    assert again.learned.n_R.sum() > more.learned.n_R.sum()


def test_without_validation_rows_training_is_short():
    data = rated()
    rows = pl.DataFrame(
        {
            "user_id": np.repeat(data.users.ids(), data.interactions.items.lengths),
            "item_id": data.items.ids(data.interactions.items.values),
            "value": data.interactions.values,
            "timestamp": data.interactions.times,
        }
    )
    blind = prepare(rows, split="time:0.9,0,0.1", repeats=False, name="blind")
    found = DeepFM(**{**SMALL, "epochs": 9}, label="value>=2").fit(blind)
    assert found.card["epochs"] == 2 and found.card["calibration"] == "none" and "validation" not in found.card
