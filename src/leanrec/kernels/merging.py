"""Where a score stands in a list of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit

__all__ = ["ranks_among", "ranks_among_reference"]


@jit
def ranks_among(lists_BC: Any, query_T: Any, scores_T: Any, ranks_T: Any) -> None:
    """ranks_T[t] = 1 + how many of lists_BC[query_T[t]], which fall, are above scores_T[t]."""
    for t in range(len(scores_T)):
        row_C = lists_BC[query_T[t]]
        low, high = 0, len(row_C)
        while low < high:
            middle = (low + high) // 2
            if row_C[middle] > scores_T[t]:
                low = middle + 1
            else:
                high = middle
        ranks_T[t] = low + 1


def ranks_among_reference(
    lists_BC: npt.NDArray[np.float32], query_T: npt.NDArray[np.int64], scores_T: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """The same by counting."""
    return np.asarray(1 + (lists_BC[query_T] > scores_T[:, None]).sum(axis=1))
