"""Full precision: float32 products of all rows, by BLAS for a batch, each with a bound on its rounding error."""

from __future__ import annotations

from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt

from leanrec.index.bounded import BoundedIndex, Exclusions, checked_norms, frozen
from leanrec.kernels.blas import blas_threads
from leanrec.kernels.scan import offer_scores, score_rows, score_rows_parallel
from leanrec.kernels.threads import spread
from leanrec.kernels.topk import State

__all__ = ["ExactIndex"]

_BUFFER = 1 << 21  # floats: 8 MiB of scores at a time, whatever the batch and the catalogue
_UNIT = 2.0**-24
_WORTH_THREADS = 16 << 20  # bytes of rows below which starting threads costs more than it saves
_WORTH_PRODUCTS = 1 << 23  # and multiplications of a batch


def _facts(norms_B: npt.NDArray[np.float32], dim: int) -> npt.NDArray[np.float64]:
    """(B, 2): |float32 product - answered score| <= facts[0] * row norm + facts[1], in whatever order BLAS sums.

    gamma_D ||q|| ||x|| bounds the rounding of a dot product in any order (Higham, Accuracy and Stability of Numerical
    Algorithms, section 3.1); two units more cover the rounding of the answered score. The second fact covers
    underflow, also where subnormal numbers are flushed to zero.
    """
    wide_B = norms_B.astype(np.float64)
    gamma = dim * _UNIT / (1 - dim * _UNIT)
    tiny = (dim + 2) * 2.0**-126
    return np.stack([(gamma + 2 * _UNIT) * 1.001 * wide_B + tiny, tiny * (1 + wide_B)], axis=1)


class ExactIndex(BoundedIndex):
    """The catalogue in float32, scanned by BLAS; 4 D bytes an item, and 4 for its norm."""

    name = "exact"
    per_row: ClassVar = {"norms": "norms_N"}

    def __init__(self, items_ND: npt.NDArray[np.float32], norms_N: npt.NDArray[np.float32]) -> None:
        assert items_ND.ndim == 2 and norms_N.shape == items_ND.shape[:1]
        self.items_ND = frozen(items_ND, np.float32)
        self.norms_N = frozen(norms_N, np.float32)

    @classmethod
    def encoded(
        cls, items_MD: npt.NDArray[np.float32], after: BoundedIndex | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        return {"norms_N": checked_norms(items_MD, "item table")}

    @property
    def bytes_scanned(self) -> int:
        return self.items_ND.nbytes + self.norms_N.nbytes

    def bounds(self, query_D: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        norms_B = checked_norms(frozen(query_D[None], np.float32), "query vectors")
        slope, floor = _facts(norms_B, self.items_ND.shape[1])[0]
        centre_N = (self.items_ND @ query_D).astype(np.float64)
        radius_N = slope * self.norms_N.astype(np.float64) + floor
        return centre_N - radius_N, centre_N + radius_N

    def scans(self, batch: int) -> int:
        return 1

    def scan(
        self, state: State, queries_BD: npt.NDArray[np.float32], norms_B: npt.NDArray[np.float32], skip: Exclusions
    ) -> None:
        size, dim = self.items_ND.shape
        facts_B2 = _facts(norms_B, dim)
        block = max(256, _BUFFER // len(queries_BD))

        def work(low: int, high: int) -> None:
            buffer = np.empty((high - low, min(block, size)), np.float32)
            for first in range(0, size, block):
                items_nD = self.items_ND[first : first + block]
                scores_Bn = buffer[:, : len(items_nD)]
                if len(queries_BD) == 1:
                    run = score_rows if items_nD.nbytes < _WORTH_THREADS else score_rows_parallel
                    run(items_nD, queries_BD[0], scores_Bn[0])
                else:
                    np.matmul(queries_BD[low:high], items_nD.T, out=scores_Bn)
                offer_scores(
                    state, scores_Bn, self.norms_N, facts_B2, first, self.items_ND, queries_BD,
                    skip.rows_E, skip.offsets, skip.allowed_N, low,
                )  # fmt: skip

        if len(queries_BD) == 1:
            work(0, 1)
            return
        with blas_threads(1):  # threads of ours compare and offer too, and wait for nobody
            spread(work, len(queries_BD), numba.get_num_threads(), max(1, _WORTH_PRODUCTS // (size * dim)))
