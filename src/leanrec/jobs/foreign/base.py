"""The contract of an importer: a file of another library becomes a source that gives the scores it gave."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import InputError
from leanrec.core.registry import nearest
from leanrec.core.tensors import map_tensors
from leanrec.index import INDEXES
from leanrec.runtime.base import Engine
from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["Arrays", "Imported", "Importer", "factor_source", "matrix", "pick", "read_arrays", "source_of"]

Arrays = Mapping[str, npt.NDArray[Any]]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What a file held. item_ids, user_ids: ids by row, when the file knows them. notes: what a person should know."""

    source: EmbeddingSource
    item_ids: npt.NDArray[Any] | None = None
    user_ids: npt.NDArray[Any] | None = None
    notes: tuple[str, ...] = ()


class Importer(ABC):
    """Reads one kind of file. Nothing in it is ever executed or unpickled."""

    Config: ClassVar[type[Config]]

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def read(self, path: Path) -> Imported:
        """InputError with the remedy when the file is not of this kind."""


def read_arrays(path: Path) -> Arrays:
    """The arrays of an .npz or .safetensors file; what would have to be unpickled is refused."""
    if not path.is_file():
        raise InputError(f"{path} is not a file: name the .npz or .safetensors file that holds the weights")
    if path.suffix != ".npz":
        return map_tensors(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read as plain arrays ({error}): save numbers and text, no Python objects"
        ) from error


def pick(arrays: Arrays, name: str, path: Path) -> npt.NDArray[Any]:
    """One array by its name."""
    if name not in arrays:
        there = ", ".join(sorted(arrays)[:20]) or "nothing"
        raise InputError(f"{path} has no array {name!r}{nearest(name, sorted(arrays))}; it has: {there}")
    return arrays[name]


def matrix(array: npt.NDArray[Any], name: str) -> F32:
    """(rows, D) finite float32 of its own."""
    if array.ndim != 2 or not array.size or array.dtype.kind != "f":
        raise InputError(f"the array {name!r} has shape {array.shape} and type {array.dtype}: a table of vectors has "
                         "two dimensions of decimal numbers")  # fmt: skip
    if not np.isfinite(array).all():
        raise InputError(f"the array {name!r} holds numbers that are not finite: the model did not converge")
    return np.ascontiguousarray(array, np.float32)


def source_of(name: str, engine: Engine, items_ND: F32) -> EmbeddingSource:
    """An engine over a full-precision index."""
    return EmbeddingSource(name, engine, INDEXES["exact"].build(items_ND))


def factor_source(
    name: str, items_ND: F32, users_UD: F32 | None, *, fold: FactorsConfig | None = None, **tensors: F32
) -> EmbeddingSource:
    """Dot products of users' and items' vectors; unknown users get the mean of their items unless `fold` says more."""
    if users_UD is not None:
        if users_UD.shape[1] != items_ND.shape[1]:
            raise InputError(f"users have {users_UD.shape[1]} factors and items {items_ND.shape[1]}: not of one model")
        tensors = {"users": users_UD, **tensors}
    engine = FactorsEngine(fold or FactorsConfig(fold="mean"), tensors, items_ND)
    return source_of(name, engine, items_ND)
