"""What interactions are trained for: each takes the gathered vectors of a batch and gives their loss and gradient.

| objective     | batch | loss                                                              | source                 |
|---------------|-------|-------------------------------------------------------------------|------------------------|
| `BPR`         | pairs | -log sigmoid(u.i - u.j), j the best scored of a few               | Rendle et al. 2009     |
| `Softmax`     | users | -log softmax of cosines / temperature, shared negatives           | Wu et al. 2022         |
| `Contrastive` | users | SimpleX: cosine hinge, the user mixed with what they have         | Mao et al. 2021a       |
| `Constraint`  | users | UltraGCN: weighted logistic, beside it the item-item graph        | Mao et al. 2021b       |

arXiv:1205.2618, 2201.02327, 2109.12613, 2110.15114.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.blas import blas_threads
from leanrec.kernels.graph import constraint_neighbours
from leanrec.kernels.pairs import bpr_pairs, hardest_others
from leanrec.kernels.rows import adam_rows
from leanrec.kernels.softmax import add_rows
from leanrec.kernels.users import hinge_negatives, logistic_negatives, pull, softmax_users
from leanrec.training.pairs.batches import PairBatch, UserBatch

__all__ = ["BPR", "Constraint", "Contrastive", "PairObjective", "Softmax", "unit"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
State = dict[str, npt.NDArray[Any]]
B = TypeVar("B", PairBatch, UserBatch, contravariant=True)


class PairObjective(Protocol, Generic[B]):
    """users_B, items_S: places of the batch's users and of its `items(batch)` among the V gathered vectors."""

    def items(self, batch: B, users_UD: F32, items_ND: F32) -> I32:
        """(S,) the item rows that the loss looks at; users_UD, items_ND: the vectors as they stand."""

    def loss(self, batch: B, vectors_VD: F32, users_B: I64, items_S: I64) -> tuple[float, F32]:
        """The sum of the batch's losses, and (V, D) the gradient that a step follows."""

    def state(self) -> State:
        """Weights beside the table."""

    def load_state(self, state: State) -> None:
        """Back to a state."""


class _Bare:
    """No weights beside the table."""

    def state(self) -> State:
        return {}

    def load_state(self, state: State) -> None:
        del state


class BPR(_Bare):
    """decay: weight of the squares of the vectors of each pair. Of the candidates, the best scored counts."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def items(self, batch: PairBatch, users_UD: F32, items_ND: F32) -> I32:
        others_B = np.empty_like(batch.items_B)
        hardest_others(users_UD, items_ND, batch.users_B, batch.others_BC, others_B)
        return np.concatenate([batch.items_B, others_B])

    def loss(self, batch: PairBatch, vectors_VD: F32, users_B: I64, items_S: I64) -> tuple[float, F32]:
        grad_VD = np.zeros_like(vectors_VD)
        count = len(users_B)
        return bpr_pairs(vectors_VD, users_B, items_S[:count], items_S[count:], self.decay, grad_VD), grad_VD


class Softmax(_Bare):
    """A user's negatives are the batch's, whether they have them or not; every interaction counts the same."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def items(self, batch: UserBatch, users_UD: F32, items_ND: F32) -> I32:
        return batch.items_S

    def loss(self, batch: UserBatch, vectors_VD: F32, users_B: I64, items_S: I64) -> tuple[float, F32]:
        unit_VD, norms_V1 = unit(vectors_VD)
        grad_VD = np.zeros_like(unit_VD)
        queries_BD = unit_VD[users_B] / self.temperature
        grad_queries_BD = np.zeros_like(queries_BD)
        slots_T, slots_n = _split(batch, items_S)
        negatives_nD = unit_VD[slots_n]
        scores_Bn = _product(queries_BD, negatives_nD.T)
        share_B = np.ones(len(users_B), np.float32)
        offsets = batch.positives.offsets
        total = softmax_users(queries_BD, unit_VD, offsets, slots_T, share_B, scores_Bn, grad_queries_BD, grad_VD)
        grad_queries_BD += _product(scores_Bn, negatives_nD)
        _add(grad_VD, slots_n, _product(scores_Bn.T, queries_BD))
        grad_VD[users_B] += grad_queries_BD / self.temperature
        return total, _through_unit(unit_VD, norms_V1, grad_VD)


class Contrastive:
    """Cosine contrastive loss: 1 - cos of what a user has, negatives only as far as their cosine is above a margin.

    The user is own x their vector + (1 - own) x mix @ the mean of their items' vectors (`mix_DD`, trained along).
    weight: of the mean over the negatives of a positive.
    """

    def __init__(self, dim: int, *, margin: float, weight: float, own: float, decay: float, lr: float) -> None:
        self.margin, self.weight, self.own, self.decay, self.lr = margin, weight, own, decay, lr
        self.mix_DD = np.eye(dim, dtype=np.float32)
        self._mean_DD, self._square_DD = np.zeros_like(self.mix_DD), np.zeros_like(self.mix_DD)
        self._steps = 0

    def items(self, batch: UserBatch, users_UD: F32, items_ND: F32) -> I32:
        return batch.items_S

    def loss(self, batch: UserBatch, vectors_VD: F32, users_B: I64, items_S: I64) -> tuple[float, F32]:
        lengths_B = batch.positives.lengths.astype(np.float32)
        slots_T, slots_n = _split(batch, items_S)
        means_BD = np.add.reduceat(vectors_VD[slots_T], batch.positives.offsets[:-1], axis=0) / lengths_B[:, None]
        mixed_BD = self.own * vectors_VD[users_B] + (1 - self.own) * _product(means_BD, self.mix_DD)
        queries_BD, norms_B1 = unit(mixed_BD)
        unit_VD, norms_V1 = unit(vectors_VD)
        grad_queries_BD, grad_unit_VD = np.zeros_like(queries_BD), np.zeros_like(unit_VD)
        offsets, ones_T = batch.positives.offsets, np.ones(len(slots_T), np.float32)
        total = pull(queries_BD, unit_VD, offsets, slots_T, ones_T, False, grad_queries_BD, grad_unit_VD)
        negatives_nD = unit_VD[slots_n]
        scores_Bn = _product(queries_BD, negatives_nD.T)
        total += hinge_negatives(scores_Bn, lengths_B * (self.weight / len(slots_n)), self.margin)
        grad_queries_BD += _product(scores_Bn, negatives_nD)
        _add(grad_unit_VD, slots_n, _product(scores_Bn.T, queries_BD))
        grad_mixed_BD = _through_unit(queries_BD, norms_B1, grad_queries_BD)
        grad_VD = _through_unit(unit_VD, norms_V1, grad_unit_VD) + self.decay * vectors_VD
        grad_VD[users_B] += self.own * grad_mixed_BD
        shared_BD = (1 - self.own) * _product(grad_mixed_BD, self.mix_DD.T) / lengths_B[:, None]
        add_rows(grad_VD, slots_T, ones_T, np.repeat(shared_BD, batch.positives.lengths, axis=0))
        self._learn((1 - self.own) * _product(means_BD.T, grad_mixed_BD))
        return total, grad_VD

    def _learn(self, grad_DD: F32) -> None:
        self._steps += 1
        rows_D = np.arange(len(grad_DD), dtype=np.int32)
        adam_rows(
            self.mix_DD, rows_D, self._mean_DD, self._square_DD, rows_D, grad_DD,
            self.lr, 0.9, 0.999, 1e-8, self._steps,
        )  # fmt: skip

    def state(self) -> State:
        return {
            "mix": self.mix_DD, "mix.mean": self._mean_DD, "mix.square": self._square_DD,
            "mix.steps": np.asarray([self._steps], np.int64),
        }  # fmt: skip

    def load_state(self, state: State) -> None:
        self.mix_DD[:], self._mean_DD[:], self._square_DD[:] = state["mix"], state["mix.mean"], state["mix.square"]
        self._steps = int(state["mix.steps"][0])


class Constraint(_Bare):
    """UltraGCN's loss: what infinitely many layers of LightGCN would converge to, as weights of a logistic loss.

    A pair weighs 1e-6 + sqrt(d_u + 1) / d_u / sqrt(d_i + 1) (eq. 9, 10). weight: of the mean over the negatives of a
    positive. graph: weight of the item-item graph (eq. 12); of the `neighbours` items nearest to a positive one is
    drawn each time and stands for all, which has the same expectation at a fraction of the cost.
    """

    _LEAST = 1e-6

    def __init__(
        self, train: Jagged, num_items: int, *, weight: float, graph: float, neighbours: int, decay: float, seed: int
    ) -> None:
        self.weight, self.graph, self.decay, self.seed = weight, graph, decay, seed
        degrees_U = train.lengths.astype(np.float32)
        degrees_N = np.bincount(train.values, minlength=num_items)
        self._of_user_U = (np.sqrt(degrees_U + 1) / np.maximum(degrees_U, 1)).astype(np.float32)
        self._of_item_N = (1 / np.sqrt(degrees_N + 1)).astype(np.float32)
        self._near_NK, self._omega_NK = np.empty((num_items, 0), np.int32), np.empty((num_items, 0), np.float32)
        if graph:
            self._near_NK, self._omega_NK = constraint_graph(train, num_items, neighbours)

    def items(self, batch: UserBatch, users_UD: F32, items_ND: F32) -> I32:
        return np.concatenate([batch.items_S, self._drawn(batch)[0]]) if self.graph else batch.items_S

    def _drawn(self, batch: UserBatch) -> tuple[I32, F32]:
        """(T,) a neighbour of each positive, and the weight with which it stands for all of them."""
        rows_T, width = batch.positives.values, self._near_NK.shape[1]
        at_T = np.random.default_rng([self.seed, batch.epoch, batch.step, 2]).integers(0, width, len(rows_T))
        return self._near_NK[rows_T, at_T], self.graph * width * self._omega_NK[rows_T, at_T]

    def loss(self, batch: UserBatch, vectors_VD: F32, users_B: I64, items_S: I64) -> tuple[float, F32]:
        positives, count = batch.positives, len(batch.items_S)
        slots_T, slots_n = _split(batch, items_S[:count])
        grad_VD = self.decay * vectors_VD
        queries_BD = vectors_VD[users_B]
        grad_queries_BD = np.zeros_like(queries_BD)
        of_user_B = self._of_user_U[batch.users_B]
        weights_T = self._LEAST + np.repeat(of_user_B, positives.lengths) * self._of_item_N[positives.values]
        pairs = (queries_BD, vectors_VD, positives.offsets)
        total = pull(*pairs, slots_T, weights_T, True, grad_queries_BD, grad_VD)
        if self.graph:
            total += pull(*pairs, items_S[count:], self._drawn(batch)[1], True, grad_queries_BD, grad_VD)
        negatives_nD = vectors_VD[slots_n]
        scores_Bn = _product(queries_BD, negatives_nD.T)
        share_B: F32 = positives.lengths.astype(np.float32) * (self.weight / len(slots_n))
        factor_n = self._of_item_N[batch.negatives_n]
        total += logistic_negatives(scores_Bn, share_B * self._LEAST, share_B * of_user_B, factor_n)
        grad_queries_BD += _product(scores_Bn, negatives_nD)
        _add(grad_VD, slots_n, _product(scores_Bn.T, queries_BD))
        grad_VD[users_B] += grad_queries_BD
        return total, grad_VD


def constraint_graph(train: Jagged, num_items: int, neighbours: int) -> tuple[I32, F32]:
    """(N, K) the items with the largest weights in the item-item graph (UltraGCN, eq. 11), and the weights.

    Where an item has fewer, its own row with weight 0 fills up.
    """
    order_T = np.argsort(train.values, kind="stable")
    by_item = Jagged.from_lengths(
        train.row_of()[order_T].astype(np.int32), np.bincount(train.values, minlength=num_items)
    )
    sums_N = np.bincount(train.values, np.repeat(train.lengths - 1, train.lengths), minlength=num_items)
    near_NK = np.repeat(np.arange(num_items, dtype=np.int32)[:, None], neighbours, axis=1)
    omega_NK = np.zeros((num_items, neighbours), np.float32)
    constraint_neighbours(
        train.offsets, train.values, by_item.offsets, by_item.values, sums_N.astype(np.float64), near_NK, omega_NK
    )
    return near_NK, omega_NK


def unit(vectors_VD: F32) -> tuple[F32, F32]:
    """(V, D) of length 1, and (V, 1) the lengths; zeros stay zeros."""
    norms_V1 = np.sqrt(np.einsum("vd,vd->v", vectors_VD, vectors_VD))[:, None]
    norms_V1[norms_V1 == 0] = 1
    return vectors_VD / norms_V1, norms_V1


def _through_unit(unit_VD: F32, norms_V1: F32, grad_VD: F32) -> F32:
    """The gradient of what was brought to length 1, from that of the result."""
    along_V1 = np.einsum("vd,vd->v", unit_VD, grad_VD)[:, None]
    result: F32 = (grad_VD - unit_VD * along_V1) / norms_V1
    return result


def _product(some: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> F32:
    """On one thread: the products of a step are too small for a second one to wake up for."""
    with blas_threads(1):
        result: F32 = np.matmul(some, other)
    return result


def _split(batch: UserBatch, items_S: I64) -> tuple[I64, I64]:
    count = len(batch.positives.values)
    return items_S[:count], items_S[count:]


def _add(grad_VD: F32, slots_n: I64, more_nD: F32) -> None:
    add_rows(grad_VD, slots_n, np.ones(len(slots_n), np.float32), more_nD)
