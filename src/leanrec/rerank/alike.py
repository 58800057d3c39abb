"""How alike items are, for the re-rankers that want lists of different things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.rerank.base import Catalogue
from leanrec.rerank.categories import categories_of

__all__ = ["checked_vectors", "unit_vectors"]

_DIM = 128


def unit_vectors(by: str | None, catalogue: Catalogue, where: str) -> npt.NDArray[np.float16]:
    """(N, D) of length 1 or 0, whose inner products say how alike two items are.

    by: `vectors`, those of a source; `users`, who had them: the cosine of their sets of users, kept by a random
    projection to 128 dimensions (Johnson & Lindenstrauss 1984); or the name of an attribute whose values are compared.
    None: `vectors` where there are any, else `users`.
    """
    if by is None:
        by = "users" if catalogue.vectors_ND is None else "vectors"
    if by == "vectors" and catalogue.vectors_ND is not None:
        table_ND = np.asarray(catalogue.vectors_ND, np.float64)
    elif by == "users":
        table_ND = _of_users(catalogue)
    else:
        lists, names = categories_of(catalogue.column(by, where))
        signs_CD = _signs(len(names)) if len(names) > _DIM else np.eye(len(names))
        table_ND = np.zeros((len(lists), signs_CD.shape[1] if len(names) else 1))
        np.add.at(table_ND, lists.row_of(), signs_CD[lists.values])
    norms_N1 = np.linalg.norm(table_ND, axis=1, keepdims=True)
    return np.asarray((table_ND / np.where(norms_N1 > 0, norms_N1, 1)).astype(np.float16))


def _of_users(catalogue: Catalogue) -> npt.NDArray[np.float64]:
    events, items = catalogue.events, len(catalogue.items)
    keys = np.unique(events.row_of() * items + events.values)
    table_ND = np.zeros((items, _DIM))
    np.add.at(table_ND, keys % items, _signs(len(events))[keys // items])
    return table_ND


def _signs(rows: int) -> npt.NDArray[np.float64]:
    return np.where(np.random.default_rng(0).integers(0, 2, (rows, _DIM)) > 0, 1.0, -1.0)


def checked_vectors(tensors: Mapping[str, npt.NDArray[Any]], items: int) -> npt.NDArray[np.float16]:
    """Those that were stored; ValueError when they are not vectors of that many items."""
    vectors_ND = tensors["vectors"]
    if vectors_ND.ndim != 2 or len(vectors_ND) != items or vectors_ND.dtype != np.float16:
        raise ValueError(f"vectors of shape {vectors_ND.shape} for {items} items")
    return vectors_ND
