"""Who has what as a graph of users and items: its normalised product, and the directions that hold most of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.blas import blas_threads
from leanrec.kernels.graph import propagate
from leanrec.kernels.threads import spread

__all__ = ["Graph", "leading"]

F32 = npt.NDArray[np.float32]
_EXTRA = 16


class Graph:
    """M nodes, users first, then items; interactions count once. threads: of a product, which is the same for any.

    user_power: a user of n items stands for n^-user_power in a product there and back; at 1 no eigenvalue is above 1.
    """

    def __init__(self, train: Jagged, num_items: int, threads: int, user_power: float = 1.0) -> None:
        self.num_users, self.threads = len(train), threads
        keys_T = np.sort(train.row_of() * num_items + train.values)
        keys_T = keys_T[np.diff(keys_T, prepend=-1) > 0]
        users_T, items_T = keys_T // num_items, keys_T % num_items
        order_T = np.argsort(items_T, kind="stable")
        self.near_T = np.concatenate([items_T + len(train), users_T[order_T]]).astype(np.int32)
        counts = [np.bincount(users_T, minlength=len(train)), np.bincount(items_T, minlength=num_items)]
        self.degrees_M = np.concatenate(counts)
        self.offsets = np.zeros(len(self.degrees_M) + 1, np.int64)
        np.cumsum(self.degrees_M, out=self.offsets[1:])
        powers_M = np.where(np.arange(len(self.degrees_M)) < len(train), user_power / 2, 0.5)
        self.scale_M = (np.maximum(self.degrees_M, 1) ** -powers_M).astype(np.float32)

    def product(self, source_MD: F32, out_MD: F32, sum_MD: F32, low: int = 0, high: int | None = None) -> None:
        """out = normalised adjacency x source, sum += out, for the nodes low..high."""
        high = len(self.degrees_M) if high is None else high
        first, edges = int(self.offsets[low]), int(self.offsets[high] - self.offsets[low])

        def node(edge: int) -> int:
            return high if edge == edges else int(np.searchsorted(self.offsets, first + edge))

        def work(start: int, end: int) -> None:
            propagate(
                self.offsets, self.near_T, self.scale_M, source_MD, out_MD, sum_MD, node(start) if start else low,
                node(end),
            )  # fmt: skip

        spread(work, edges, self.threads)


def leading(graph: Graph, dim: int, seed: int, rounds: int = 5) -> tuple[F32, F32]:
    """(M, D) singular vectors of the normalised interactions, of users and of items, and (D,) singular values.

    By so many rounds of block power iteration (Halko, Martinsson & Tropp 2011, arXiv:0909.4061); columns beyond the
    rank are zeros.
    """
    size, users = len(graph.degrees_M), graph.num_users
    width = max(1, min(dim + _EXTRA, users, size - users))
    block_MD, out_MD = np.zeros((size, width), np.float32), np.empty((size, width), np.float32)
    scratch_MD = np.zeros_like(block_MD)
    block_MD[users:] = np.random.default_rng([seed, 7]).standard_normal((size - users, width), np.float32)
    with blas_threads(1):
        for last in [False] * rounds + [True]:
            block_MD[users:] = _orthonormal(block_MD[users:])[0]
            graph.product(block_MD, out_MD, scratch_MD, 0, users)
            block_MD[:users] = out_MD[:users]
            if not last:
                graph.product(block_MD, out_MD, scratch_MD, users, size)
                block_MD[users:] = out_MD[users:]
        users_UD, turn_DD, values_D = _orthonormal(block_MD[:users])
        found_MD = np.concatenate([users_UD, block_MD[users:] @ turn_DD])
    vectors_MD = np.zeros((size, dim), np.float32)
    kept = min(dim, width)
    vectors_MD[:, :kept] = np.where(values_D[:kept] > 0, found_MD[:, :kept], 0)
    singular_D = np.zeros(dim, np.float32)
    singular_D[:kept] = values_D[:kept]
    return vectors_MD, singular_D


def _orthonormal(rows_ND: F32) -> tuple[F32, F32, F32]:
    """(N, D) orthonormal columns X turn / values, the (D, D) turn and the (D,) values, falling; then zeros."""
    squares_D, turn_DD = np.linalg.eigh(rows_ND.T.astype(np.float64) @ rows_ND)
    squares_D, turn_DD = squares_D[::-1], turn_DD[:, ::-1]
    values_D = np.sqrt(np.where(squares_D > 1e-10 * squares_D[0], squares_D, 0))
    scale_D = np.divide(1, values_D, out=np.zeros_like(values_D), where=values_D > 0)
    unit_ND = rows_ND @ (turn_DD * scale_D).astype(np.float32)
    return unit_ND, turn_DD.astype(np.float32), values_D.astype(np.float32)
