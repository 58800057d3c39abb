"""Validation NDCG of user and item vectors, alike for leanrec and its peer: every environment has NumPy.

The arrays come from an .npz file: `items`, `offsets` (training items by user), `targets`, `target_offsets` (validation
items by user), and `judges`, the users that are asked.
"""

import numpy as np

BLOCK = 512
DEPTH = 20


def ndcg(users_UD, items_ND, arrays):
    """Mean NDCG@20 over the judges, ranking all items but those of the user's own training part."""
    judges, total = arrays["judges"], 0.0
    gains = 1 / np.log2(np.arange(2, DEPTH + 2))
    ideal = np.cumsum(gains)
    for start in range(0, len(judges), BLOCK):
        some = judges[start : start + BLOCK]
        scores = users_UD[some] @ items_ND.T
        for row, user in enumerate(some):
            scores[row, _row(arrays, "items", "offsets", user)] = -np.inf
        best = np.argpartition(-scores, DEPTH, axis=1)[:, :DEPTH]
        for row, user in enumerate(some):
            ranked = best[row][np.argsort(-scores[row, best[row]], kind="stable")]
            targets = _row(arrays, "targets", "target_offsets", user)
            total += gains[np.isin(ranked, targets)].sum() / ideal[min(DEPTH, len(targets)) - 1]
    return float(total / len(judges))


def stale(curve, patience):
    """Whether the last `patience` iterations brought nothing better. curve: seconds and score of each."""
    scores = [score for _, score in curve]
    return len(scores) - 1 - scores.index(max(scores)) >= patience


def _row(arrays, values, offsets, row):
    return arrays[values][arrays[offsets][row] : arrays[offsets][row + 1]]
