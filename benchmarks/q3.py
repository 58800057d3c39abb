"""Q3: click models on MovieLens-100K, label rating >= 4, demographics and genres, split in time (80, 10, 10 %).

Everybody learns from the same features: categories with a code a value, genres as a set, numbers normalised. Settings
and the length of training come from validation, then everything is trained again on train + validation; the peers too:
scikit-learn's logistic regression with the best of a path of C, LightGBM with its defaults and early stopping. The
table holds every model with paired intervals against both peers (bootstrap over users) and the calibration error.

ratio: the smaller of `logistic`'s AUC over scikit-learn's and of the best ranker's, by validation, over LightGBM's.
Gate: off-policy estimates equal Open Bandit Pipeline's to 1e-6.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import lightgbm
import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from benchmarks.harness import LONG, Result
from benchmarks.off_policy_gate import TOLERANCE, compare_with_obp
from leanrec.data.catalog import load_public
from leanrec.data.dataset import Dataset
from leanrec.data.download import cache_folder
from leanrec.data.examples.base import USER
from leanrec.data.examples.events import examples_of
from leanrec.data.prepare import prepare
from leanrec.evaluation.binary import auc, calibration_error, log_loss
from leanrec.features.batch import FeatureBatch
from leanrec.features.space import FeatureConfig, FeatureSpace
from leanrec.features.stacked import Stacked
from leanrec.models import MODELS
from leanrec.runtime.engines.trees import tree_inputs
from leanrec.runtime.sources.scorer import ScoringSource
from leanrec.training.labelled import Labelled, encode

LABEL = "value>=4"
RANKERS = ("linear", "fm", "dnn", "wide-deep", "deepfm", "dcnv2", "dlrm", "finalnet", "din", "multi-task", "gbdt")
PEERS = ("scikit-learn", "LightGBM")
SEEDS = range(3 if LONG else 1)
DRAWS = 1000
_PATH = (0.01, 0.03, 0.1, 0.3, 1.0)
_SPLIT = "time:0.8,0.1,0.1"

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """A model's probabilities for the test rows, its AUC on validation before the refit, and the seconds it took."""

    said_T: F64
    valid_auc: float
    seconds: float


def run() -> Result:
    """Fit and judge everything, then the off-policy gate."""
    data = movielens()
    rows = examples_of(data, LABEL)
    test = pl.concat(list(rows.batches("test", 1 << 16, [USER])))
    labels, users = test[rows.label].to_numpy(), test[USER].to_numpy()
    found: dict[str, Judged] = {"scikit-learn": _sklearn(data), "LightGBM": _lightgbm(data)}
    for name in ("logistic", *RANKERS):
        print(f"{name} ...", flush=True)
        found[name] = _ours(data, name)
    draws = _draws(users)
    aucs = {name: _aucs(labels, one.said_T, draws) for name, one in found.items()}
    best = max(RANKERS, key=lambda name: found[name].valid_auc)
    ratios = [_ratio(aucs[a], aucs[b]) for a, b in (("logistic", "scikit-learn"), (best, "LightGBM"))]
    ratio, interval = min(ratios)
    gap, said = compare_with_obp()
    table = [_row(name, one, labels, aucs) for name, one in found.items()]
    return Result(
        id="Q3", ratio=ratio, interval=interval, gate="ok" if gap <= TOLERANCE else "failed",
        headers=("model", "AUC", "log loss", "ECE", "AUC - scikit-learn", "AUC - LightGBM", "valid AUC", "s"),
        rows=table,
        figures=f"logistic {ratios[0][0]:.4f} of scikit-learn's AUC, {best} (best on validation) {ratios[1][0]:.4f} of "
        f"LightGBM's; off-policy differs by {gap:.1g}",
        notes=(
            f"{len(labels):,} test rows of {len(np.unique(users)):,} users; intervals are 95 %, {DRAWS:,} bootstrap "
            f"draws of users; our rows: mean probability over {len(SEEDS)} seed(s)",
            said,
        ),
    )  # fmt: skip


def movielens() -> Dataset:
    """MovieLens-100K with genres, year, age, gender, occupation and the first digit of the zip code."""
    events, items = load_public("ml-100k")
    file = next((cache_folder() / "data" / "ml-100k").rglob("ml-100k.user"))
    users = pl.read_csv(
        file, separator="\t", infer_schema=False, new_columns=["user_id", "age", "gender", "occupation", "zip"]
    )
    users = users.with_columns(pl.col("user_id", "age").cast(pl.Int64), area=pl.col("zip").str.slice(0, 1)).drop("zip")
    return prepare(events.collect(), items=items.drop("title"), users=users, split=_SPLIT, name="ml-100k")


def _ours(data: Dataset, name: str) -> Judged:
    kind = MODELS[name]
    model = kind(labels={"like": LABEL, "love": "value>=5"}) if name == "multi-task" else kind(label=LABEL)
    start, said, valid = time.perf_counter(), [], []
    for seed in SEEDS:
        recommender = model.fit(data, seed=seed, refit=True)
        source = recommender.source
        assert isinstance(source, ScoringSource)
        rows = encode(source.tables.space, examples_of(data, LABEL), "test")
        said.append(source.calibrator(source.raw(rows.batch)).astype(np.float64))
        valid.append(recommender.card["validation"]["auc"])
    return Judged(np.mean(said, axis=0), float(np.mean(valid)), time.perf_counter() - start)


def _parts(data: Dataset, refit: bool) -> tuple[Labelled, Labelled, Labelled]:
    """Train, validation and test in the features that the models get by default."""
    rows = examples_of(data, LABEL, refit=refit)
    space = FeatureSpace.fit(rows, FeatureConfig(history=0))
    return encode(space, rows, "train"), encode(space, rows, "valid"), encode(space, rows, "test")


def _one_hot(batch: FeatureBatch) -> csr_matrix:
    stacked = Stacked.of(batch.layout)
    rows, values = stacked.sparse(batch)
    return csr_matrix((values, rows.values, rows.offsets), shape=(len(batch), stacked.total))


def _sklearn(data: Dataset) -> Judged:
    start = time.perf_counter()
    train, valid, _ = _parts(data, refit=False)

    def fitted(rows: Labelled, c: float) -> LogisticRegression:
        return LogisticRegression(C=c, max_iter=1000).fit(_one_hot(rows.batch), rows.labels_BT[:, 0])

    def said(model: LogisticRegression, rows: Labelled) -> F64:
        return np.asarray(model.predict_proba(_one_hot(rows.batch))[:, 1])

    scores = {c: said(fitted(train, c), valid) for c in _PATH}
    best = min(scores, key=lambda c: log_loss(valid.labels_BT[:, 0], scores[c]))
    valid_auc = auc(valid.labels_BT[:, 0], scores[best])
    train, _, test = _parts(data, refit=True)
    return Judged(said(fitted(train, best), test), valid_auc, time.perf_counter() - start)


def _lightgbm(data: Dataset) -> Judged:
    start = time.perf_counter()
    train, valid, _ = _parts(data, refit=False)
    settings = {"objective": "binary", "verbosity": -1, "seed": 0, "deterministic": True}

    def dataset(rows: Labelled) -> lightgbm.Dataset:
        categories = list(range(len(rows.batch.layout.categories)))
        return lightgbm.Dataset(tree_inputs(rows.batch), rows.labels_BT[:, 0], categorical_feature=categories)

    stop = lightgbm.early_stopping(50, verbose=False)
    searched = lightgbm.train(settings, dataset(train), 2000, [dataset(valid)], callbacks=[stop])
    valid_auc = auc(valid.labels_BT[:, 0], searched.predict(tree_inputs(valid.batch)))
    train, _, test = _parts(data, refit=True)
    refitted = lightgbm.train(settings, dataset(train), searched.best_iteration)
    return Judged(np.asarray(refitted.predict(tree_inputs(test.batch))), valid_auc, time.perf_counter() - start)


def _draws(users_T: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """(DRAWS, T) how often each row counts when users are drawn with replacement."""
    _, user_T = np.unique(users_T, return_inverse=True)
    count = int(user_T.max()) + 1
    rng = np.random.default_rng(0)
    return np.stack([np.bincount(rng.integers(0, count, count), minlength=count)[user_T] for _ in range(DRAWS)])


def _aucs(labels: npt.NDArray[np.uint8], said_T: F64, draws: npt.NDArray[np.int64]) -> F64:
    """(1 + DRAWS,) the AUC, and that of each draw; rows are sorted once."""
    order = np.argsort(-said_T, kind="stable")
    labels, said_T = labels[order], said_T[order]
    return np.array([auc(labels, said_T), *(auc(labels, said_T, draw[order]) for draw in draws)])


def _ratio(ours: F64, peer: F64) -> tuple[float, tuple[float, float]]:
    low, high = np.quantile(ours[1:] / peer[1:], [0.025, 0.975])
    return float(ours[0] / peer[0]), (float(low), float(high))


def _row(name: str, one: Judged, labels: npt.NDArray[np.uint8], aucs: dict[str, F64]) -> tuple[str, ...]:
    against = [_difference(aucs[name], aucs[peer]) if name != peer else "" for peer in PEERS]
    measured: list[Callable[..., float]] = [auc, log_loss, calibration_error]
    return (
        name, *(f"{metric(labels, one.said_T):.4f}" for metric in measured), *against, f"{one.valid_auc:.4f}",
        f"{one.seconds:.0f}",
    )  # fmt: skip


def _difference(ours: F64, peer: F64) -> str:
    low, high = np.quantile(ours[1:] - peer[1:], [0.025, 0.975])
    return f"{ours[0] - peer[0]:+.4f} [{low:+.4f}, {high:+.4f}]"
