"""How far predicted ratings are from those given, in the unit of the rating."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError

__all__ = ["RATINGS", "mae", "rating_metrics", "rmse"]

Numbers = npt.NDArray[Any]


def rmse(ratings_T: Numbers, predicted_T: Numbers, weights_T: Numbers | None = None) -> float:
    """Root of the mean squared error. ratings, predicted: (T,). weights: (T,) how often each row counts."""
    errors_T = np.asarray(predicted_T, np.float64) - np.asarray(ratings_T, np.float64)
    return float(np.sqrt(np.average(errors_T**2, weights=weights_T)))


def mae(ratings_T: Numbers, predicted_T: Numbers, weights_T: Numbers | None = None) -> float:
    """Mean absolute error; shapes as in `rmse`."""
    errors_T = np.asarray(predicted_T, np.float64) - np.asarray(ratings_T, np.float64)
    return float(np.average(np.abs(errors_T), weights=weights_T))


RATINGS: dict[str, Callable[[Numbers, Numbers, Numbers | None], float]] = {"rmse": rmse, "mae": mae}
"""Every metric of predicted ratings, from (ratings, predicted, weights); less is better."""


def rating_metrics(ratings_T: Numbers, predicted_T: Numbers, weights_T: Numbers | None = None) -> dict[str, float]:
    """Every metric by name; InputError when there is nothing to judge or a value is not finite."""
    if ratings_T.shape != predicted_T.shape or ratings_T.ndim != 1 or not len(ratings_T):
        raise InputError(f"ratings and predictions do not pair: {ratings_T.shape} and {predicted_T.shape}")
    for what, values_T in (("ratings", ratings_T), ("predictions", predicted_T)):
        bad = int((~np.isfinite(values_T)).sum())
        if bad:
            raise InputError(f"{bad:,} of {len(values_T):,} {what} are not finite numbers: leave those rows out")
    return {name: metric(ratings_T, predicted_T, weights_T) for name, metric in RATINGS.items()}
