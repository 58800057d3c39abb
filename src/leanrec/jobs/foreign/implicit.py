"""Models of the library `implicit`, as their `save` writes them: `user_factors`, `item_factors` and settings in .npz.

A user unknown to ALS is folded in as `recalculate_user` does, every event of the history with confidence `alpha`:
(Y'Y + (alpha - 1) sum y y' + regularization I) x = alpha sum y over the history (Hu et al. 2008, eq. 4). With alpha 1
that is linear, and exact; with more, scores are (alpha - 1) / alpha of theirs, in the same order; with less, the
middle term is left out. BPR's and LMF's unknown users get the mean of their items' vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from leanrec.core.config import Config
from leanrec.jobs.foreign.base import Arrays, Imported, Importer, factor_source, matrix, pick, read_arrays
from leanrec.runtime.engines.factors import FactorsConfig
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["ImplicitConfig", "ImplicitFactors"]


class ImplicitConfig(Config, frozen=True, kw_only=True):
    """Settings of `leanrec import implicit`."""

    items: str = "item_factors"
    """Name of the items' array."""
    users: str = "user_factors"
    """Name of the users' array."""


class ImplicitFactors(Importer):
    """ALS, BPR and logistic matrix factorisation."""

    Config: ClassVar[type[Config]] = ImplicitConfig

    def read(self, path: Path) -> Imported:
        arrays = read_arrays(path)
        items_ND = matrix(pick(arrays, self.config.items, path), self.config.items)
        users_UD = matrix(pick(arrays, self.config.users, path), self.config.users)
        if "alpha" in arrays and "regularization" in arrays:
            return Imported(source=_als(arrays, items_ND, users_UD))
        inputs_ND = items_ND.copy()
        if (users_UD[:, -1] == 1).all():
            inputs_ND[:, -1] = 1  # the column that is multiplied with the item's bias
        return Imported(
            source=factor_source("implicit", items_ND, users_UD, inputs=inputs_ND),
            notes=("unknown users are the mean of the items in their history",),
        )


def _als(arrays: Arrays, items_ND: np.ndarray, users_UD: np.ndarray) -> EmbeddingSource:
    alpha, regularisation = float(arrays["alpha"]), float(arrays["regularization"])
    wide_ND = items_ND.astype(np.float64)
    gram_DD = wide_ND.T @ wide_ND
    if alpha <= 1:
        solved = np.linalg.solve(gram_DD + regularisation * np.eye(len(gram_DD)), wide_ND.T).T * alpha
        fold = FactorsConfig(fold="mean", power=0.0)
        return factor_source("implicit", items_ND, users_UD, fold=fold, inputs=solved.astype(np.float32))
    eigenvalues_D, basis_DD = np.linalg.eigh(gram_DD)
    spectrum_D = (np.maximum(eigenvalues_D, 0) / (alpha - 1)).astype(np.float32)
    fold = FactorsConfig(fold="ridge", regularisation=max(regularisation, 1e-12) / (alpha - 1))
    turned_ND, turned_UD = ((one.astype(np.float64) @ basis_DD).astype(np.float32) for one in (items_ND, users_UD))
    return factor_source("implicit", turned_ND, turned_UD, fold=fold, spectrum=spectrum_D)
