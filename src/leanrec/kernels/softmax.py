"""Softmax cross-entropy over a whole catalogue, loss and gradients in one pass, in memory that does not grow with T.

Tokens are taken C at a time. Blocks of items are scored items-major, turned into exponentials while they are in cache
(below a running maximum, as online softmax does: arXiv:1805.02867), and kept for the second product alone: what a block
is off by, its own maximum and the sum that is only known at the end, is a factor for each token, so it goes into the
(C, D) operand of that product and not over the scores again. Three products of 2 T N D operations, none done twice;
each of them runs on one core, and threads share the items.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.kernels.blas import blas_threads
from leanrec.kernels.jit import jit, jit_fast, jit_fast_inline

__all__ = ["BlockSoftmax", "add_rows", "exp_inline", "exponentials"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

_BLOCK = 1 << 17
"""Scores in a block: half a megabyte, which stays in a core's second-level cache."""
_LOG2E = np.float32(1.4426950408889634)
_LN2 = np.float32(0.6931471805599453)


@jit_fast_inline
def exp_inline(x: Any) -> Any:
    """e^x for x <= 0 to 2e-6 of its value, 0 below -87; unlike the library's, the compiler makes vectors of it."""
    x = max(x, np.float32(-87.0))
    whole = np.rint(x * _LOG2E)
    r = x - whole * _LN2
    p = np.float32(1.3888889e-3)
    p = p * r + np.float32(8.3333333e-3)
    p = p * r + np.float32(4.1666667e-2)
    p = p * r + np.float32(1.6666667e-1)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    return p * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@jit_fast
def exponentials(scores_IC: F32, top_C: F32, sum_C: F32) -> None:
    """scores = exp(scores - top) in place, where top becomes the maximum of itself and the block; sum = their sums."""
    items, tokens = scores_IC.shape
    for i in range(items):
        for c in range(tokens):
            top_C[c] = max(top_C[c], scores_IC[i, c])
    for c in range(tokens):
        sum_C[c] = np.float32(0.0)
    for i in range(items):
        for c in range(tokens):
            e = exp_inline(scores_IC[i, c] - top_C[c])
            scores_IC[i, c] = e
            sum_C[c] += e


@jit
def add_rows(table_UD: F32, rows_S: Any, scale_S: F32, vectors_SD: F32) -> None:
    """table[row] += scale * vector, one after the other, so that a row may come more than once."""
    for s in range(len(rows_S)):
        for d in range(table_UD.shape[1]):
            table_UD[rows_S[s], d] += scale_S[s] * vectors_SD[s, d]


@dataclass(slots=True)
class _Part:
    """What a run of neighbouring blocks knows of the current tokens: maxima, sums, and sums of exp(score) x item."""

    blocks: range
    top_C: F32
    sum_C: npt.NDArray[np.float64]
    mixed_CD: F32


class BlockSoftmax:
    """-log softmax of each target among N items and its gradients, in a buffer that is kept for the next call.

    memory: bytes of scores that are held at once (N x 32 x 4 at least). smoothing: share of the target's probability
    that is spread evenly over all items (arXiv:1512.00567). One call at a time.
    """

    def __init__(self, memory: int = 1 << 26, smoothing: float = 0.0) -> None:
        self.memory, self.smoothing = memory, smoothing
        self._buffer: F32 = np.empty(0, np.float32)

    def __call__(
        self, hidden_TD: F32, items_ND: F32, targets_T: I64, share_T: F32, grad_hidden_TD: F32, grad_items_ND: F32,
        threads: int = 1,
    ) -> F32:  # fmt: skip
        """(T,) losses; the gradients of sum(share * loss) are written into the two arrays, whatever they held."""
        tokens, num_items = len(hidden_TD), len(items_ND)
        loss_T = np.empty(tokens, np.float32)
        size = min(tokens, max(32, min(256, self.memory // (64 * num_items) * 16)))  # whole vectors of tokens
        if len(self._buffer) < num_items * size:
            self._buffer = np.empty(num_items * size, np.float32)
        with np.errstate(invalid="ignore"), blas_threads(1), ThreadPoolExecutor(threads, initializer=_quiet) as pool:
            for low in range(0, tokens, size):
                high = min(low + size, tokens)
                scores_NC = self._buffer[: num_items * (high - low)].reshape(num_items, high - low)
                step = _Step(scores_NC, hidden_TD[low:high], items_ND, share_T[low:high], threads)
                loss_T[low:high] = step.normalise(grad_hidden_TD[low:high], pool.map)
                step.accumulate(grad_items_ND, low == 0, pool.map)
        picked_TD = items_ND[targets_T]
        keep = np.float32(1 - self.smoothing)
        loss_T -= keep * np.einsum("td,td->t", hidden_TD, picked_TD)
        grad_hidden_TD -= (keep * share_T)[:, None] * picked_TD
        add_rows(grad_items_ND, targets_T, -keep * share_T, hidden_TD)
        if self.smoothing:
            mean_D = items_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
            loss_T -= np.float32(self.smoothing) * (hidden_TD @ mean_D)
            grad_hidden_TD -= np.float32(self.smoothing) * share_T[:, None] * mean_D
            grad_items_ND -= np.float32(self.smoothing / num_items) * (share_T @ hidden_TD)
        return loss_T


def _quiet() -> None:
    """Scores that are not numbers show in the loss; the warnings of a thread are its own."""
    np.seterr(invalid="ignore")


class _Step:
    """C tokens against all items."""

    def __init__(self, scores_NC: F32, hidden_CD: F32, items_ND: F32, share_C: F32, threads: int) -> None:
        self.scores_NC, self.hidden_CD, self.items_ND, self.share_C = scores_NC, hidden_CD, items_ND, share_C
        num_items, tokens = scores_NC.shape
        self.rows = max(1, _BLOCK // tokens)
        blocks = -(-num_items // self.rows)
        self.tops_KC = np.empty((blocks, tokens), np.float32)
        # more parts than threads: one that is held up by another program holds nobody up
        edges = np.linspace(0, blocks, min(blocks, 4 * threads if threads > 1 else 1) + 1).astype(int).tolist()
        self.parts = [
            _Part(
                range(low, high), np.full(tokens, -np.inf, np.float32), np.zeros(tokens),
                np.zeros(hidden_CD.shape, np.float32),
            )
            for low, high in itertools.pairwise(edges)
        ]  # fmt: skip

    def normalise(self, grad_hidden_CD: F32, run: Callable[..., Iterable[None]]) -> F32:
        """(C,) log-sum-exp of the scores; writes the gradient of share * log-sum-exp by the hidden vectors."""
        turned_DC = np.ascontiguousarray(self.hidden_CD.T)
        list(run(lambda part: self._score(part, turned_DC), self.parts))
        self.top_C = np.max([part.top_C for part in self.parts], axis=0)
        factors = [np.exp(part.top_C - self.top_C) for part in self.parts]
        self.sum_C = np.sum([f * part.sum_C for f, part in zip(factors, self.parts, strict=True)], axis=0)
        mixed_CD = np.sum([f[:, None] * part.mixed_CD for f, part in zip(factors, self.parts, strict=True)], axis=0)
        grad_hidden_CD[:] = (self.share_C / self.sum_C)[:, None] * mixed_CD
        result: F32 = (self.top_C + np.log(self.sum_C)).astype(np.float32)
        return result

    def _score(self, part: _Part, turned_DC: F32) -> None:
        sum_C, mixed_CD = np.empty_like(part.top_C), np.empty_like(part.mixed_CD)
        for block in part.blocks:
            at = slice(block * self.rows, (block + 1) * self.rows)
            scores_IC, items_ID = self.scores_NC[at], self.items_ND[at]
            np.matmul(items_ID, turned_DC, out=scores_IC)
            before_C = part.top_C.copy()
            exponentials(scores_IC, part.top_C, sum_C)
            np.matmul(scores_IC.T, items_ID, out=mixed_CD)
            factor_C = np.exp(before_C - part.top_C)
            part.sum_C *= factor_C
            part.sum_C += sum_C
            part.mixed_CD *= factor_C[:, None]
            part.mixed_CD += mixed_CD
            self.tops_KC[block] = part.top_C

    def accumulate(self, grad_items_ND: F32, first: bool, run: Callable[..., Iterable[None]]) -> None:
        """Add the gradient of share * log-sum-exp by the items; the first tokens write instead."""

        def work(part: _Part) -> None:
            scratch = np.empty((self.rows, self.items_ND.shape[1]), np.float32)
            for block in part.blocks:
                at = slice(block * self.rows, (block + 1) * self.rows)
                scores_IC, grad_ID = self.scores_NC[at], grad_items_ND[at]
                factor_C = self.share_C * np.exp(self.tops_KC[block] - self.top_C) / self.sum_C
                scaled_CD = self.hidden_CD * factor_C[:, None].astype(np.float32)
                if first:
                    np.matmul(scores_IC, scaled_CD, out=grad_ID)
                else:
                    grad_ID += np.matmul(scores_IC, scaled_CD, out=scratch[: len(grad_ID)])

        list(run(work, self.parts))
