"""Boosted trees walked row by row, beside a plain Python reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.kernels.jit import jit

__all__ = ["score_trees", "score_trees_reference"]


@jit
def score_trees(
    x_BF: Any, roots: Any, feature: Any, threshold: Any, children: Any, value: Any, sets: Any, set_offsets: Any
) -> Any:
    """(B,) float64 sums of leaf values.

    A node is a leaf where feature is -1; its value counts. Else a row goes to children[node, 0] when
    x <= threshold, or, where set_offsets[node] < set_offsets[node + 1], when the bit of x is set in
    sets[set_offsets[node]:set_offsets[node + 1]] (32 codes a word); otherwise to children[node, 1].
    """
    out_B = np.zeros(len(x_BF))
    for row in range(len(x_BF)):
        total = 0.0
        for node in roots:
            while feature[node] >= 0:
                x = x_BF[row, feature[node]]
                first, last = set_offsets[node], set_offsets[node + 1]
                if last > first:
                    code = np.int64(x)
                    left = 0 <= code < 32 * (last - first) and (sets[first + code // 32] >> np.uint32(code % 32)) & 1
                else:
                    left = x <= threshold[node]
                node = children[node, 0] if left else children[node, 1]
            total += value[node]
        out_B[row] = total
    return out_B


def score_trees_reference(
    x_BF: Any, roots: Any, feature: Any, threshold: Any, children: Any, value: Any, sets: Any, set_offsets: Any
) -> Any:
    """What `score_trees` computes, with sets as Python sets."""
    out_B = np.zeros(len(x_BF))
    for row, x_F in enumerate(x_BF):
        for root in roots:
            node = root
            while feature[node] >= 0:
                words = sets[set_offsets[node] : set_offsets[node + 1]]
                codes = {32 * w + b for w, word in enumerate(words.tolist()) for b in range(32) if word >> b & 1}
                x = x_F[feature[node]]
                left = int(x) in codes if len(words) else x <= threshold[node]
                node = children[node, 0 if left else 1]
            out_B[row] += value[node]
    return out_B
