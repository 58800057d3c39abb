"""Search in the lists nearest to a query, each scanned like a table of planes; queries go to threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.kernels.jit import jit, jit_parallel, prange
from leanrec.kernels.nibbles import ROWS, block_dots
from leanrec.kernels.planes import BLOCK, refine, rough_uppers
from leanrec.kernels.topk import State

__all__ = ["probe_lists", "probe_lists_parallel"]


@jit
def _scan_places(
    state: Any, b: Any, first: Any, last: Any, table: Any, asked: Any, excluded: Any, allowed_N: Any, scratch: Any
) -> None:
    """Offer the rows at places first .. last - 1 to one query."""
    high_MG84, _, scales_N, levels_N, _, longest_J, _, _ = table
    rough_BG284, _, _, bases_B3, facts_B7, _ = asked
    dots, uppers, rests, open_scratch = scratch
    while first < last:
        block = first // BLOCK
        stop = min(last, (block + 1) * BLOCK)
        count, ahead, longest = stop - first, first % ROWS, np.float64(longest_J[block])
        if facts_B7[b, 6] * longest + 1e-44 >= state.heaps_SBK[0, b, 0]:
            block_dots(high_MG84[first // ROWS : -(-stop // ROWS)], rough_BG284[b : b + 1], dots)
            for i in range(count):
                rests[i] = scales_N[first + i] * np.float32(levels_N[first + i])
            dots_n = dots[0, ahead : ahead + count]
            rough_uppers(dots_n, bases_B3[b, 0], facts_B7[b, 2], scales_N[first:stop], rests, uppers[:count])
            refine(
                state, 0, b, first, longest, dots_n, uppers[:count], table, asked, -np.inf, np.float32(-np.inf),
                np.float32(np.inf), excluded, allowed_N, open_scratch,
            )  # fmt: skip
        first = stop


@jit
def _nearest(scores_L: Any, probes: Any) -> Any:
    """The lists with the `probes` largest scores, best first."""
    if probes >= len(scores_L):
        return np.argsort(-scores_L)
    floor = np.partition(scores_L, len(scores_L) - probes)[len(scores_L) - probes]
    lists = np.flatnonzero(scores_L >= floor)
    return lists[np.argsort(-scores_L[lists])]


def _probe_lists(
    state: State, table: Any, asked: Any, edges_L: Any, scores_BL: Any, probes: Any, excluded_E: Any, excluded_at: Any,
    allowed_N: Any,
) -> None:  # fmt: skip
    """Offer the rows of the lists with the largest scores, more lists while fewer than k rows were found.

    table, asked: as in `planes.scan_planes`, rows by place. List l holds places edges_L[l] .. edges_L[l + 1] - 1; what
    stands behind the last list is scanned by every query.
    """
    size, count = len(table[2]), len(edges_L) - 1
    for b in prange(len(scores_BL)):
        dots, uppers = np.empty((1, BLOCK + ROWS), np.int32), np.empty(BLOCK, np.float32)
        scratch = (dots, uppers, np.empty(BLOCK, np.float32), (np.empty(BLOCK, np.int32), np.empty(ROWS, np.int32)))
        excluded = excluded_E[excluded_at[b] : excluded_at[b + 1]]
        lists = _nearest(scores_BL[b], probes)
        for place in lists:
            _scan_places(
                state, b, edges_L[place], edges_L[place + 1], table, asked, excluded, allowed_N, scratch
            )  # fmt: skip
        _scan_places(state, b, edges_L[count], size, table, asked, excluded, allowed_N, scratch)
        if state.heaps_SBK[0, b, 0] == -np.inf and len(lists) < count:
            for place in _nearest(scores_BL[b], count)[len(lists) :]:
                if state.heaps_SBK[0, b, 0] == -np.inf:
                    _scan_places(
                        state, b, edges_L[place], edges_L[place + 1], table, asked, excluded, allowed_N, scratch
                    )  # fmt: skip


probe_lists = jit(_probe_lists)
probe_lists_parallel = jit_parallel(_probe_lists)
