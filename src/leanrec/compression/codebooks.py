"""Product codes learn to rank as the original item vectors did, for the questions that are asked.

For each question the original scores of a shared set of items (the best of every question of the batch, and others at
random) become a distribution; pieces and codes are moved so that the coded items' scores give the same one. The coded
model's own query is used on its side, since what encodes a history reads coded items too. Behind every code stands a
point that gradients move straight through the choice of the piece next to it (van den Oord et al. 2017), so that items
may change their codes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from leanrec.compression.base import Work
from leanrec.compression.tables import with_vectors
from leanrec.core.errors import MissingExtra
from leanrec.core.nouns import Queries
from leanrec.index.vectors.low_rank import LowRankVectors
from leanrec.index.vectors.product import ProductVectors
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

if TYPE_CHECKING:
    import torch

__all__ = ["distilled"]

F32 = npt.NDArray[np.float32]
_BATCH = 128
_BEST = 50
_OTHERS = 2000
_RATE = 0.01
"""Of the pieces' own spread, an Adam step; points move as far on average."""
_LONGEST = 5.0
"""Average steps that a point moves at most."""


def distilled(
    model: Recommender, vectors: LowRankVectors, queries: Queries, *, epochs: int, index: str, work: Work
) -> LowRankVectors:
    """Vectors whose pieces and codes learned; as they are where there are no questions to learn from."""
    codes, source = vectors.factors, model.source
    if not isinstance(codes, ProductVectors) or not len(queries) or not isinstance(source, EmbeddingSource):
        return vectors
    taught_BD = source.encode(queries)
    best_BK = source.index.search(taught_BD, min(_BEST, source.num_items)).items_BK
    learner = _Learner(source, vectors)
    end = None if work.seconds is None else time.monotonic() + work.seconds
    for epoch in range(epochs):
        if end is not None and time.monotonic() > end:
            break
        lean = with_vectors(model, learner.vectors(), index).source
        assert isinstance(lean, EmbeddingSource)
        learner.rate = _RATE * (1 - epoch / epochs)
        learner.epoch(source, taught_BD, lean.encode(queries), best_BK, np.random.default_rng([work.seed, epoch]))
    return learner.vectors()


class _Learner:
    """Pieces with Adam, points with plain steps of a common size, where a batch touches them."""

    def __init__(self, source: EmbeddingSource, vectors: LowRankVectors) -> None:
        try:
            import torch
        except ModuleNotFoundError as error:
            raise MissingExtra("train", "torch", "codes that learn (epochs)") from error
        codes = vectors.factors
        assert isinstance(codes, ProductVectors)
        self._torch, self._vectors, self._codes = torch, vectors, codes
        self._basis = torch.from_numpy(np.array(vectors.basis_RD))
        self._pieces = torch.from_numpy(np.array(codes.pieces_MCW)).requires_grad_()
        self._picked = codes.codes_NM.copy()
        self._points = _points(source, vectors, codes)
        self._square = 0.0
        self._spread = float(codes.pieces_MCW.std())
        self._optimiser = torch.optim.Adam([self._pieces], lr=1.0, betas=(0.9, 0.99))
        self.rate = _RATE

    def epoch(
        self, teacher: EmbeddingSource, taught_BD: F32, asked_BD: F32, best_BK: npt.NDArray[np.int32],
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        torch = self._torch
        order = rng.permutation(len(taught_BD))
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            others = rng.integers(0, teacher.num_items, _OTHERS)
            rows = np.unique(np.concatenate([best_BK[some].reshape(-1), others]))
            rows = rows[rows >= 0]
            wanted = torch.from_numpy(taught_BD[some] @ teacher.items.gather(rows).T)
            heat = (wanted.topk(min(20, len(rows)), dim=1).values.std(dim=1, keepdim=True)).clamp(min=1e-6)
            asked_BR = torch.from_numpy(np.ascontiguousarray(asked_BD[some])) @ self._basis.T
            points, factors = self._factors(rows)
            scores = asked_BR @ factors.T
            loss = -(torch.softmax(wanted / heat, 1) * torch.log_softmax(scores / heat, 1)).sum(1).mean()
            self._optimiser.zero_grad()
            loss.backward()
            self._step(rows, points)

    def _factors(self, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, M, W) points, and (n, R) what they are coded as."""
        torch = self._torch
        points = torch.from_numpy(self._points[rows]).requires_grad_()
        with torch.no_grad():
            flat = points.transpose(0, 1)
            far = torch.baddbmm((self._pieces**2).sum(2)[:, None], flat, self._pieces.transpose(1, 2), alpha=-2)
            picked = far.argmin(dim=2).T
        self._picked[rows] = picked.numpy()
        parts = self._pieces[torch.arange(picked.shape[1]), picked] + (points - points.detach())
        levels = torch.from_numpy(self._codes.levels_S[self._codes.sizes_N[rows]])
        return points, parts.reshape(len(rows), -1)[:, : self._codes.shape[1]] * levels[:, None]

    def _step(self, rows: npt.NDArray[np.int64], points: torch.Tensor) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self.rate * self._spread
        self._optimiser.step()
        assert points.grad is not None
        slope = points.grad.numpy()
        now = float(np.square(slope).mean())  # one size for all: items that hardly matter hardly move
        self._square = 0.9 * self._square + 0.1 * now if self._square else now
        step = np.clip(slope / np.sqrt(self._square + 1e-30), -_LONGEST, _LONGEST)
        self._points[rows] -= np.float32(self.rate * self._spread) * step.astype(np.float32)

    def vectors(self) -> LowRankVectors:
        """What was learned so far."""
        return self._vectors.with_factors(self._codes.recoded(self._picked.copy(), self._pieces.detach().numpy()))


def _points(source: EmbeddingSource, vectors: LowRankVectors, codes: ProductVectors) -> F32:
    """(N, M, W) the original vectors as the codes were made from: in the basis, of length 1, padded."""
    splits, _, width = codes.pieces_MCW.shape
    onto_DR = np.linalg.pinv(vectors.basis_RD.astype(np.float64)).astype(np.float32)
    points = np.zeros((len(codes), splits * width), np.float32)
    for low, rows_nD in source.items.blocks():
        factors_nR = rows_nD @ onto_DR
        if codes.scaled:
            factors_nR /= np.maximum(np.sqrt(np.einsum("nr,nr->n", factors_nR, factors_nR)), 1e-30)[:, None]
        points[low : low + len(rows_nD), : factors_nR.shape[1]] = factors_nR
    return points.reshape(len(codes), splits, width)
