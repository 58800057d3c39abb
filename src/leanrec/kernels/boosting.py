"""Boosted trees over binned features: LambdaMART's gradients, and the growth of one tree.

Trees are complete, of one depth: node n has the children 2 n + 1 and 2 n + 2; one that does not split sends all left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.kernels.jit import jit

__all__ = ["grow_tree", "lambda_gradients", "score_trees"]


@jit
def lambda_gradients(scores_T: Any, relevant_T: Any, offsets: Any, level: Any, gradient_T: Any, hessian_T: Any) -> None:
    """First and second derivatives of the pairwise logistic loss, each pair counted by what swapping it would do to
    NDCG (LambdaMART, Burges 2010); pairs with neither place above `level` are left out. Gradients point upwards.
    """
    gradient_T[:] = 0.0
    hessian_T[:] = 0.0
    for q in range(len(offsets) - 1):
        start, stop = offsets[q], offsets[q + 1]
        order = np.argsort(-scores_T[start:stop], kind="mergesort")
        discount = np.empty(stop - start)
        rank = np.empty(stop - start, np.int64)
        right, ideal = 0, 0.0
        for place in range(stop - start):
            rank[order[place]] = place
            discount[order[place]] = 1.0 / np.log2(place + 2.0)
            if relevant_T[start + order[place]]:
                ideal += 1.0 / np.log2(right + 2.0)
                right += 1
        for i in range(stop - start):
            if not relevant_T[start + i]:
                continue
            for j in range(stop - start):
                if relevant_T[start + j] or min(rank[i], rank[j]) >= level:
                    continue
                change = abs(discount[i] - discount[j]) / ideal
                wrong = 1.0 / (1.0 + np.exp(scores_T[start + i] - scores_T[start + j]))
                gradient_T[start + i] += change * wrong
                gradient_T[start + j] -= change * wrong
                hessian_T[start + i] += change * wrong * (1.0 - wrong)
                hessian_T[start + j] += change * wrong * (1.0 - wrong)


@jit
def grow_tree(
    bins_FT: Any, bins: Any, gradient_T: Any, hessian_T: Any, least: Any, l2: Any, feature_H: Any, bin_H: Any,
    leaf_L: Any, node_T: Any,
) -> None:  # fmt: skip
    """Level by level the split of each node that lowers the second-order loss most (Chen & Guestrin 2016, eq. 7).

    bins_FT: uint8, below `bins`. A row goes to the right of a node where its bin is above bin_H; 255 sends all to the
    left. least: rows a child has at least. node_T: where the rows end, among the leaves.
    """
    features, rows = bins_FT.shape
    inner = len(feature_H)
    feature_H[:] = 0
    bin_H[:] = 255
    node_T[:] = 0
    first, width = 0, 1
    while first < inner:
        sums = np.zeros((width, bins, 3))
        best_gain = np.full(width, 1e-12)
        for f in range(features):
            sums[:] = 0.0
            for t in range(rows):
                cell = sums[node_T[t] - first, bins_FT[f, t]]
                cell[0] += gradient_T[t]
                cell[1] += hessian_T[t]
                cell[2] += 1.0
            for n in range(width):
                whole = sums[n].sum(axis=0)
                left_g, left_h, left_c = 0.0, 0.0, 0.0
                parent = whole[0] ** 2 / (whole[1] + l2)
                for b in range(bins - 1):
                    left_g += sums[n, b, 0]
                    left_h += sums[n, b, 1]
                    left_c += sums[n, b, 2]
                    if left_c < least or whole[2] - left_c < least:
                        continue
                    gain = left_g**2 / (left_h + l2) + (whole[0] - left_g) ** 2 / (whole[1] - left_h + l2) - parent
                    if gain > best_gain[n]:
                        best_gain[n] = gain
                        feature_H[first + n] = f
                        bin_H[first + n] = b
        for t in range(rows):
            n = node_T[t]
            node_T[t] = 2 * n + 1 + (bins_FT[feature_H[n], t] > bin_H[n])
        first, width = 2 * first + 1, 2 * width
    sums_L = np.zeros((len(leaf_L), 2))
    for t in range(rows):
        node_T[t] -= inner
        sums_L[node_T[t], 0] += gradient_T[t]
        sums_L[node_T[t], 1] += hessian_T[t]
    for leaf in range(len(leaf_L)):
        leaf_L[leaf] = sums_L[leaf, 0] / (sums_L[leaf, 1] + l2)


@jit
def score_trees(features_TF: Any, feature_RH: Any, threshold_RH: Any, leaf_RL: Any, scores_T: Any) -> None:
    """Adds up the leaves that each row ends in; right where a feature is above the threshold."""
    rounds, inner = feature_RH.shape
    for t in range(len(features_TF)):
        total = 0.0
        for r in range(rounds):
            n = 0
            while n < inner:
                n = 2 * n + 1 + (features_TF[t, feature_RH[r, n]] > threshold_RH[r, n])
            total += leaf_RL[r, n - inner]
        scores_T[t] = total
