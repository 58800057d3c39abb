"""How good an engine is on labelled rows, as early stopping and the choice of settings ask it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from leanrec.evaluation.binary import auc, log_loss
from leanrec.features.batch import FeatureBatch
from leanrec.runtime.base import ScoringEngine
from leanrec.training.labelled import Labelled

__all__ = ["Watch", "judge", "raw_scores"]

Watch = Literal["log_loss", "auc"]
_BLOCK = 4096


def raw_scores(engine: ScoringEngine, batch: FeatureBatch, task: int = 0) -> npt.NDArray[np.float32]:
    """(B,) raw scores of one task, block by block."""
    starts = range(0, len(batch), _BLOCK)
    parts = [engine.raw(batch.take(np.arange(s, min(s + _BLOCK, len(batch)))))[:, task] for s in starts]
    return np.concatenate([np.empty(0, np.float32), *parts])


def judge(engine: ScoringEngine, rows: Labelled, watch: Watch) -> float:
    """The AUC, or the negative log loss of uncalibrated probabilities: larger is better."""
    raw = raw_scores(engine, rows.batch).astype(np.float64)
    labels = rows.labels_BT[:, 0]
    if watch == "auc":
        found = auc(labels, raw)
        return 0.5 if math.isnan(found) else found
    return -log_loss(labels, 1 / (1 + np.exp(-np.clip(raw, -60, 60))))
