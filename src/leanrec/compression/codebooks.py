"""The pieces of product codes learn to rank as the original item vectors did, for the questions that are asked.

For each question the original scores of a shared set of items (the best of every question of the batch, and others at
random) become a distribution; the pieces are moved so that the coded items' scores give the same one (cross-entropy,
Adam). The coded model's own query is used on its side, since what encodes a history reads coded items too. Codes stay.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from leanrec.compression.base import Work
from leanrec.compression.tables import with_vectors
from leanrec.core.errors import MissingExtra
from leanrec.core.nouns import Queries
from leanrec.index.vectors.low_rank import LowRankVectors
from leanrec.index.vectors.product import ProductVectors
from leanrec.kernels.bfloat16 import nearest_bfloat16
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["distilled"]

F32 = npt.NDArray[np.float32]
_BATCH = 128
_BEST = 50
_OTHERS = 2000
_RATE = 0.02


def distilled(
    model: Recommender, vectors: LowRankVectors, queries: Queries, *, epochs: int, index: str, work: Work
) -> LowRankVectors:
    """The same codes with pieces that learned; `vectors` as they are where there are no questions to learn from."""
    codes, source = vectors.factors, model.source
    if not isinstance(codes, ProductVectors) or not len(queries) or not isinstance(source, EmbeddingSource):
        return vectors
    taught_BD = source.encode(queries)
    best_BK = source.index.search(taught_BD, min(_BEST, source.num_items)).items_BK
    end = None if work.seconds is None else time.monotonic() + work.seconds
    for epoch in range(epochs):
        if end is not None and time.monotonic() > end:
            break
        lean = with_vectors(model, vectors, index).source
        assert isinstance(lean, EmbeddingSource)
        learner = _Learner(vectors, _RATE * 0.5**epoch)
        learner.epoch(source, taught_BD, lean.encode(queries), best_BK, np.random.default_rng([work.seed, epoch]))
        vectors = learner.vectors()
    return vectors


class _Learner:
    def __init__(self, vectors: LowRankVectors, rate: float) -> None:
        try:
            import torch
        except ModuleNotFoundError as error:
            raise MissingExtra("train", "torch", "pieces that learn (epochs)") from error
        codes = vectors.factors
        assert isinstance(codes, ProductVectors)
        self._torch, self._vectors, self._codes = torch, vectors, codes
        self._basis = torch.from_numpy(np.array(vectors.basis_RD))
        self._pieces = torch.from_numpy(np.array(codes.pieces_MCW)).requires_grad_()
        size = float(codes.pieces_MCW.std())
        self._optimiser = torch.optim.Adam([self._pieces], lr=rate * size, betas=(0.9, 0.99))

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
            scores = asked_BR @ self._factors(rows).T
            loss = -(torch.softmax(wanted / heat, 1) * torch.log_softmax(scores / heat, 1)).sum(1).mean()
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()

    def _factors(self, rows: npt.NDArray[np.int64]) -> "torch.Tensor":  # noqa: F821, UP037
        """(n, R) decoded from the pieces as they are now."""
        picked = self._torch.from_numpy(self._codes.codes_NM[rows].astype(np.int64))
        parts = self._pieces[self._torch.arange(picked.shape[1]), picked]
        return parts.reshape(len(rows), -1)[:, : self._codes.shape[1]]

    def vectors(self) -> LowRankVectors:
        pieces = self._pieces.detach().numpy()
        codes = ProductVectors(self._codes.shape[1], self._codes.codes_NM, nearest_bfloat16(pieces))
        return self._vectors.with_factors(codes)
