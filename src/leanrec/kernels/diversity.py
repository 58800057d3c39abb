"""Greedy selections that make a list as a whole good, over B pools of M candidates at once.

`order_BM` is filled with the places of each pool in their new order, -1 in what is left. Candidates beyond
`counts_B` are no candidates; those that are not selected, as all are from the place on where no value is a number,
follow in their old order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.kernels.jit import jit, jit_inline

__all__ = ["calibrated_order", "dpp_order", "mmr_order"]


@jit
def _follow(order_M: Any, selected: Any, taken_M: Any, count: Any) -> None:
    """What was not selected, in the order it had."""
    at = selected
    for place in range(count):
        if not taken_M[place]:
            order_M[at] = place
            at += 1
    order_M[at:] = -1


@jit_inline
def _cosine(vectors_MD: Any, one: Any, other: Any) -> Any:
    """In float64, of vectors of length 1."""
    total = 0.0
    for d in range(vectors_MD.shape[1]):
        total += np.float64(vectors_MD[one, d]) * np.float64(vectors_MD[other, d])
    return total


@jit
def mmr_order(relevance_BM: Any, vectors_BMD: Any, counts_B: Any, diversity: Any, k: Any, order_BM: Any) -> None:
    """Place by place the candidate with the most (1 - diversity) relevance - diversity * largest cosine above it."""
    batch, width = relevance_BM.shape
    for b in range(batch):
        count = counts_B[b]
        taken_M = np.zeros(width, np.bool_)
        nearest_M = np.zeros(width)
        selected = min(k, count)
        for place in range(selected):
            best, best_value = -1, -np.inf
            for m in range(count):
                if not taken_M[m]:
                    value = (1 - diversity) * relevance_BM[b, m] - diversity * nearest_M[m]
                    if value > best_value:
                        best, best_value = m, value
            if best < 0:  # relevance that is no number
                selected = place
                break
            order_BM[b, place] = best
            taken_M[best] = True
            for m in range(count):
                if not taken_M[m]:
                    alike = _cosine(vectors_BMD[b], m, best)
                    nearest_M[m] = alike if place == 0 else max(nearest_M[m], alike)
        _follow(order_BM[b], selected, taken_M, count)


@jit
def dpp_order(quality_BM: Any, vectors_BMD: Any, counts_B: Any, k: Any, floor: Any, order_BM: Any) -> None:
    """Greedy MAP of a determinantal point process with kernel q_i q_j (1 + cosine_ij) / 2, by updates of its Cholesky
    factor (Chen et al. 2018, algorithm 1); ends early where no candidate adds more than `floor` of volume.
    """
    batch, width = quality_BM.shape
    for b in range(batch):
        count = counts_B[b]
        taken_M = np.zeros(width, np.bool_)
        most = min(k, count)
        factor_KM = np.zeros((most, width))
        volume_M = quality_BM[b] * quality_BM[b]
        selected = 0
        while selected < most:
            best, best_value = -1, -np.inf
            for m in range(count):
                if not taken_M[m] and volume_M[m] > best_value:
                    best, best_value = m, volume_M[m]
            if best < 0 or best_value <= floor:
                break
            order_BM[b, selected] = best
            taken_M[best] = True
            root = np.sqrt(best_value)
            for m in range(count):
                if not taken_M[m]:
                    kernel = quality_BM[b, m] * quality_BM[b, best] * (1 + _cosine(vectors_BMD[b], m, best)) / 2
                    for before in range(selected):
                        kernel -= factor_KM[before, m] * factor_KM[before, best]
                    factor_KM[selected, m] = kernel / root
                    volume_M[m] -= factor_KM[selected, m] ** 2
            selected += 1
        _follow(order_BM[b], selected, taken_M, count)


@jit
def _divergence(wanted_G: Any, sums_G: Any, filled: Any, smooth: Any) -> Any:
    """KL(wanted || (1 - smooth) of what is there + smooth of what is wanted)."""
    total = 0.0
    for g in range(len(wanted_G)):
        if wanted_G[g] > 0:
            there = sums_G[g] / filled if filled > 0 else 0.0
            total += wanted_G[g] * np.log(wanted_G[g] / ((1 - smooth) * there + smooth * wanted_G[g]))
    return total


@jit
def calibrated_order(
    relevance_BM: Any, items_BM: Any, counts_B: Any, wanted_BG: Any, offsets: Any, categories: Any, weight: Any,
    smooth: Any, k: Any, order_BM: Any,
) -> None:  # fmt: skip
    """Place by place what makes (1 - weight) sum of relevance - weight KL(wanted || list) largest (Steck 2018, eq. 6).

    wanted_BG: shares of the categories in the history, all 0 where it has none, which leaves the pool as it is.
    offsets, categories: those of every item, to which it belongs in equal parts.
    """
    batch, width = relevance_BM.shape
    sums_G = np.zeros(wanted_BG.shape[1])
    for b in range(batch):
        count = counts_B[b]
        taken_M = np.zeros(width, np.bool_)
        sums_G[:] = 0.0
        filled = 0.0
        selected = min(k, count) if wanted_BG[b].sum() > 0 else 0
        for place in range(selected):
            best, best_value = -1, -np.inf
            for m in range(count):
                if taken_M[m]:
                    continue
                start, stop = offsets[items_BM[b, m]], offsets[items_BM[b, m] + 1]
                for at in range(start, stop):
                    sums_G[categories[at]] += 1.0 / (stop - start)
                more = 1.0 if stop > start else 0.0
                value = (1 - weight) * relevance_BM[b, m]
                value -= weight * _divergence(wanted_BG[b], sums_G, filled + more, smooth)
                for at in range(start, stop):
                    sums_G[categories[at]] -= 1.0 / (stop - start)
                if value > best_value:
                    best, best_value = m, value
            if best < 0:  # relevance that is no number
                selected = place
                break
            order_BM[b, place] = best
            taken_M[best] = True
            start, stop = offsets[items_BM[b, best]], offsets[items_BM[b, best] + 1]
            for at in range(start, stop):
                sums_G[categories[at]] += 1.0 / (stop - start)
            filled += 1.0 if stop > start else 0.0
        _follow(order_BM[b], selected, taken_M, count)
