"""Half steps of `mf`: users' vectors and biases for fixed items, and the reverse, by exact ridge regressions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.fold import fold_ridge_threaded

if TYPE_CHECKING:
    from leanrec.models.mf import MFConfig

__all__ = ["RatingFactors", "Ratings", "alternate", "constant_of", "half_step", "move"]

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ratings:
    """Who rated what, both ways round, as (rows of the other side, ratings in their layout); mean: of all ratings."""

    users: Jagged
    users_T: F64
    items: Jagged
    items_T: F64
    mean: float

    @classmethod
    def of(cls, events: Jagged, ratings_T: F64, num_items: int, mean: float | None = None) -> Ratings:
        """events: item rows by user; ratings_T: in their layout, none missing. mean: theirs unless given."""
        order = np.argsort(events.values, kind="stable")
        counts_N = np.bincount(events.values, minlength=num_items)
        items = Jagged.from_lengths(events.row_of()[order].astype(np.int32), counts_N)
        return cls(events, ratings_T, items, ratings_T[order], float(ratings_T.mean()) if mean is None else mean)


@dataclass(frozen=True, slots=True)
class RatingFactors:
    """mean + biases_U[u] + biases_N[i] + users_UD[u] . items_ND[i] is the predicted rating."""

    users_UD: F32
    biases_U: F64
    items_ND: F32
    biases_N: F64

    def predict(self, mean: float, users_T: npt.NDArray[np.int64], items_T: npt.NDArray[np.int64]) -> F64:
        """(T,) predicted ratings."""
        tastes_T = np.einsum("td,td->t", self.users_UD[users_T], self.items_ND[items_T])
        return np.asarray(mean + self.biases_U[users_T] + self.biases_N[items_T] + tastes_T)

    def grown(self, num_users: int, num_items: int) -> RatingFactors:
        """With zeros for users and items that come after the others."""
        users, items = num_users - len(self.biases_U), num_items - len(self.biases_N)
        return RatingFactors(
            np.pad(self.users_UD, ((0, users), (0, 0))), np.pad(self.biases_U, (0, users)),
            np.pad(self.items_ND, ((0, items), (0, 0))), np.pad(self.biases_N, (0, items)),
        )  # fmt: skip


def alternate(ratings: Ratings, config: MFConfig, seed: int) -> Iterator[RatingFactors]:
    """Vectors and biases after each iteration; config: without a None."""
    num_items = len(ratings.items)
    fresh_ND = np.random.default_rng(seed).standard_normal((num_items, config.factors), np.float32)
    items_ND, biases_N = fresh_ND * np.float32(0.1), np.zeros(num_items)
    for _ in range(config.iterations):
        residuals_T = ratings.users_T - ratings.mean - biases_N[ratings.users.values]
        users_UD, biases_U = half_step(ratings.users, residuals_T, items_ND, config)
        residuals_T = ratings.items_T - ratings.mean - biases_U[ratings.items.values]
        items_ND, biases_N = half_step(ratings.items, residuals_T, users_UD, config)
        yield RatingFactors(users_UD, biases_U, items_ND, biases_N)


def half_step(rated: Jagged, residuals_T: F64, table_ND: F32, config: MFConfig) -> tuple[F32, F64]:
    """Vectors and biases of the rows of `rated`: the bias is the coefficient of a constant column of the table."""
    assert config.regularisation is not None
    constant = constant_of(config)
    wide_ND = np.append(table_ND, np.full((len(table_ND), 1), constant, np.float32), axis=1)
    weights_B = config.regularisation * np.maximum(rated.lengths, 1.0) ** config.exponent
    none_D = np.zeros(wide_ND.shape[1])
    found_BD = fold_ridge_threaded(rated, residuals_T, wide_ND, none_D, weights_B, numba.get_num_threads())
    return np.ascontiguousarray(found_BD[:, :-1]), constant * found_BD[:, -1].astype(np.float64)


def move(
    old: RatingFactors, ratings: Ratings, users: npt.NDArray[np.int32], items: npt.NDArray[np.int32], config: MFConfig
) -> RatingFactors:
    """A half step for some users, then one for some items; the others stay."""
    users_UD, biases_U = old.users_UD.copy(), old.biases_U.copy()
    items_ND, biases_N = old.items_ND.copy(), old.biases_N.copy()
    rated, by_user = ratings.users.take(users), Jagged(ratings.users_T, ratings.users.offsets).take(users)
    residuals_T = by_user.values - ratings.mean - biases_N[rated.values]
    users_UD[users], biases_U[users] = half_step(rated, residuals_T, items_ND, config)
    rated, by_item = ratings.items.take(items), Jagged(ratings.items_T, ratings.items.offsets).take(items)
    residuals_T = by_item.values - ratings.mean - biases_U[rated.values]
    items_ND[items], biases_N[items] = half_step(rated, residuals_T, users_UD, config)
    return RatingFactors(users_UD, biases_U, items_ND, biases_N)


def constant_of(config: MFConfig) -> float:
    """The value of the constant column that makes one penalty of both."""
    assert config.regularisation is not None
    return float((config.regularisation / config.bias_regularisation) ** 0.5)
