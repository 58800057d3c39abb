"""RecTools' vector models. RecTools pickles its models, which are never opened here; export what scores are made of:

    users, items = model.get_vectors()              # ImplicitALSWrapperModel, LightFMWrapperModel, DSSMModel(dataset)
    np.savez("model.npz", user_vectors=users, user_ids=dataset.user_id_map.external_ids.astype(str),
             item_vectors=items, item_ids=dataset.item_id_map.external_ids.astype(str))

Ids may be whole numbers or text, not Python objects. The same names in a .safetensors file do too (ids as numbers).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.jobs.foreign.base import Imported, Importer, factor_source, matrix, pick, read_arrays

__all__ = ["RecToolsConfig", "RecToolsVectors"]


class RecToolsConfig(Config, frozen=True, kw_only=True):
    """Settings of `leanrec import rectools`."""

    distance: Literal["dot", "cosine"] = "dot"
    """The model's distance between users and items (`Distance.DOT` or `Distance.COSINE`)."""


class RecToolsVectors(Importer):
    """Vectors of users and items, and their ids."""

    Config: ClassVar[type[Config]] = RecToolsConfig

    def read(self, path: Path) -> Imported:
        arrays = read_arrays(path)
        items_ND = matrix(pick(arrays, "item_vectors", path), "item_vectors")
        users_UD = matrix(arrays["user_vectors"], "user_vectors") if "user_vectors" in arrays else None
        if self.config.distance == "cosine":
            items_ND, users_UD = _unit(items_ND), None if users_UD is None else _unit(users_UD)
        return Imported(
            source=factor_source("rectools", items_ND, users_UD),
            item_ids=arrays.get("item_ids"),
            user_ids=arrays.get("user_ids"),
            notes=("unknown users are the mean of the items in their history",),
        )


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
