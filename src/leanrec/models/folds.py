"""Cross-validation of a model of labelled rows: k folds over rows or over users, for one setting or a path of them.

Of k folds one judges, the next one ends the training early, and the others train; every fold judges once. Settings that
are compared see the same folds, so their differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.console import format_table, muted
from leanrec.core.errors import ConfigError, InputError
from leanrec.data.examples.base import USER, Examples
from leanrec.evaluation.binary import auc, log_loss
from leanrec.features.space import FeatureConfig, FeatureSpace
from leanrec.models import MODELS
from leanrec.models.scoring import Learning, ScoringModel
from leanrec.runtime.calibration import fit_calibrator
from leanrec.training.judging import raw_scores
from leanrec.training.labelled import Labelled, balanced, encode

__all__ = ["Folded", "Folds", "compare_settings"]

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Folded:
    """One setting. auc_K, log_loss_K: of each fold, by calibrated probabilities."""

    settings: Mapping[str, Any]
    auc_K: F64
    log_loss_K: F64


class Folds(tuple[Folded, ...]):
    """The settings in the order they were given."""

    @property
    def best(self) -> Folded:
        """The lowest mean log loss."""
        return min(self, key=lambda one: float(one.log_loss_K.mean()))

    def __str__(self) -> str:
        rows = [
            [
                " ".join(f"{k}={v}" for k, v in one.settings.items()) or "defaults",
                *map(_spread, (one.auc_K, one.log_loss_K)),
            ]
            for one in self
        ]
        return format_table(["settings", "AUC", "log loss"], rows)


def compare_settings(
    model: str,
    examples: Examples,
    settings: Sequence[Mapping[str, Any]] = ({},),
    *,
    folds: int = 5,
    by: Literal["rows", "users"] = "rows",
    seed: int = 0,
) -> Folds:
    """Judge each of `settings` on the training part of `examples`; validation and test rows are not touched.

    by: `users` puts all rows of a user into one fold, so that every judged user is a new one. The features are fitted
    once, on the whole part: they do not look at labels.
    """
    if folds < 3:
        raise ConfigError(f"folds={folds}: at least 3, one to judge, one to stop by and one to learn from")
    made = [_model(model, one) for one in settings]
    history = made[0].config.history if made[0].history else 0
    space = FeatureSpace.fit(examples, FeatureConfig(history=history))
    rows = encode(space, examples, "train")
    fold_B = _folds(examples, len(rows), folds, by, seed)
    found = []
    with muted():
        for one, said in zip(made, settings, strict=True):
            judged = [_judge(one, rows, fold_B, fold, folds, seed) for fold in range(folds)]
            found.append(Folded(dict(said), *(np.array(values) for values in zip(*judged, strict=True))))
    return Folds(found)


def _model(name: str, settings: Mapping[str, Any]) -> ScoringModel[Any]:
    model = MODELS[name](**settings)
    if not isinstance(model, ScoringModel):
        raise ConfigError(f"{name} learns from events and not from labelled rows: use a model of clicks")
    return model


def _folds(
    examples: Examples, count: int, folds: int, by: Literal["rows", "users"], seed: int
) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng([seed, 0xF01D])
    owner_B = np.arange(count)
    if by == "users":
        if USER not in examples.columns:
            raise InputError(f"{examples.name} does not say whose rows they are: use by='rows'")
        frames = list(examples.batches("train", 1 << 16, [USER]))
        owner_B = np.unique(pl.concat(frames)[USER].to_numpy(), return_inverse=True)[1]
    owners = int(owner_B.max(initial=-1)) + 1
    if owners < folds:
        raise InputError(f"{examples.name} has {owners} {by} to train on, fewer than {folds} folds")
    fold_of: npt.NDArray[np.int64] = rng.permutation(owners) % folds
    return fold_of[owner_B]


def _judge(
    model: ScoringModel[Any], rows: Labelled, fold_B: npt.NDArray[np.int64], fold: int, folds: int, seed: int
) -> tuple[float, float]:
    stop, judge = fold_B == (fold + 1) % folds, fold_B == fold
    train, shift = balanced(rows.take(np.flatnonzero(~stop & ~judge)), model.config.balance, seed)
    valid, test = rows.take(np.flatnonzero(stop)), rows.take(np.flatnonzero(judge))
    learned = model.learn(train, valid, Learning(seed))
    task = model.served
    calibrator = fit_calibrator(
        model.config.calibration, raw_scores(learned.engine, valid.batch, task), valid.labels_BT[:, task],
        link=learned.link, shift=shift,
    )  # fmt: skip
    said = calibrator(raw_scores(learned.engine, test.batch, task))
    return auc(test.labels_BT[:, task], said), log_loss(test.labels_BT[:, task], said)


def _spread(values_K: F64) -> str:
    return f"{values_K.mean():.4f} ± {values_K.std(ddof=1) / len(values_K) ** 0.5:.4f}"
