"""Propagation over the graph of who interacted with what: one sparse product, rows summed where they are in cache."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit, jit_fast

__all__ = [
    "constraint_neighbours", "propagate", "propagate_reference", "two_hops", "two_hops_reference",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@jit_fast
def propagate(
    offsets: I64, neighbours_T: I32, scale_M: F32, source_MD: F32, out_MD: F32, sum_MD: F32, low: int, high: int
) -> None:
    """out[m] = scale[m] * sum of scale[n] * source[n] over the neighbours n of m, for m in low..high; sum += out.

    scale_M: 1 / sqrt(neighbours), which makes it the symmetrically normalised adjacency matrix (He et al. 2020, eq. 7).
    """
    dim = source_MD.shape[1]
    for m in range(low, high):
        for d in range(dim):
            out_MD[m, d] = np.float32(0.0)
        for t in range(offsets[m], offsets[m + 1]):
            n = neighbours_T[t]
            scale = scale_M[n]
            for d in range(dim):
                out_MD[m, d] += scale * source_MD[n, d]
        for d in range(dim):
            out_MD[m, d] *= scale_M[m]
            sum_MD[m, d] += out_MD[m, d]


def propagate_reference(
    offsets: I64, neighbours_T: I32, scale_M: F32, source_MD: F32, out_MD: F32, sum_MD: F32, low: int, high: int
) -> None:
    for m in range(low, high):
        near = neighbours_T[offsets[m] : offsets[m + 1]]
        out_MD[m] = scale_M[m] * (scale_M[near, None].astype(np.float64) * source_MD[near]).sum(axis=0)
        sum_MD[m] += out_MD[m]


@jit
def two_hops(
    offsets: I64, items_T: I32, scale_N: F32, item_offsets: I64, users_T: I32, weight_U: F32, user_offsets: I64,
    of_users_T: I32, out_BN: F32,
) -> None:  # fmt: skip
    """out[b] += over the items i of row b, the users u of i and the items j of u: scale[i] * weight[u], at j."""
    for b in range(len(offsets) - 1):
        for t in range(offsets[b], offsets[b + 1]):
            i = items_T[t]
            for a in range(item_offsets[i], item_offsets[i + 1]):
                u = users_T[a]
                step = scale_N[i] * weight_U[u]
                for place in range(user_offsets[u], user_offsets[u + 1]):
                    out_BN[b, of_users_T[place]] += step


def two_hops_reference(
    offsets: I64, items_T: I32, scale_N: F32, item_offsets: I64, users_T: I32, weight_U: F32, user_offsets: I64,
    of_users_T: I32, out_BN: F32,
) -> None:  # fmt: skip
    rows, (users, size) = len(offsets) - 1, (len(weight_U), len(scale_N))
    history_BN, had_UN = np.zeros((rows, size)), np.zeros((users, size))
    np.add.at(history_BN, (np.repeat(np.arange(rows), np.diff(offsets)), items_T), 1)
    had_UN[np.repeat(np.arange(users), np.diff(user_offsets)), of_users_T] = 1
    out_BN += (((history_BN * scale_N) @ had_UN.T * weight_U) @ had_UN).astype(np.float32)


@jit
def constraint_neighbours(
    user_offsets: I64, items_T: I32, item_offsets: I64, users_T: I32, sums_N: npt.NDArray[np.float64],
    near_NK: I32, omega_NK: F32,
) -> None:  # fmt: skip
    """The K largest weights of UltraGCN's item-item graph of each item, by falling weight, equal ones by rising row.

    With G the numbers of shared users (0 on the diagonal) and g = sums_N its sums by row:
    omega[i, j] = G[i, j] / g[i] * sqrt((g[i] + 1) / (g[j] + 1)).
    """
    num_items, most = near_NK.shape
    counts_N = np.zeros(num_items, np.int64)
    touched = np.empty(num_items, np.int32)
    for i in range(num_items):
        found = 0
        for a in range(item_offsets[i], item_offsets[i + 1]):
            user = users_T[a]
            for t in range(user_offsets[user], user_offsets[user + 1]):
                j = items_T[t]
                if j == i:
                    continue
                if counts_N[j] == 0:
                    touched[found] = j
                    found += 1
                counts_N[j] += 1
        kept = 0
        own = np.sqrt(sums_N[i] + 1) / max(sums_N[i], 1.0)
        for place in range(found):
            j = touched[place]
            weight = np.float32(counts_N[j] * own / np.sqrt(sums_N[j] + 1))
            counts_N[j] = 0
            at = kept
            while at > 0 and (
                omega_NK[i, at - 1] < weight or (omega_NK[i, at - 1] == weight and near_NK[i, at - 1] > j)
            ):
                at -= 1
            if at == most:
                continue
            kept = min(kept + 1, most)
            for later in range(kept - 1, at, -1):
                omega_NK[i, later], near_NK[i, later] = omega_NK[i, later - 1], near_NK[i, later - 1]
            omega_NK[i, at], near_NK[i, at] = weight, j
