"""Candidates that somebody else found, offered to top-k without bounds: canonical scores decide."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanrec.kernels.jit import jit
from leanrec.kernels.topk import offer_row

__all__ = ["offer_candidates"]


@jit
def offer_candidates(
    state: Any, rows_BC: Any, items_ND: Any, queries_BD: Any, exclude_E: Any, exclude_at: Any, allowed_N: Any
) -> None:
    """Offer the distinct rows of rows_BC (-1: none) that may be answered to the first scan of each query's state."""
    for b in range(len(queries_BD)):
        excluded = exclude_E[exclude_at[b] : exclude_at[b + 1]]
        for c in range(rows_BC.shape[1]):
            row = rows_BC[b, c]
            if row >= 0 and (len(allowed_N) == 0 or allowed_N[row]):
                offer_row(state, 0, b, row, -np.inf, np.inf, items_ND, queries_BD[b], excluded)
