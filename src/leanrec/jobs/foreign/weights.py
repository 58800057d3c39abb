"""Any torch module whose weights are in a safetensors file: two tables and a dot product, or one of our encoders.

Two tables (`engine = "factors"`), as in

    items = "item_embedding.weight"
    users = "user_embedding.weight"
    item_bias = "item_bias.weight"          # and user_bias, mean: all may be left out

score user . item + item_bias + user_bias + mean. A sequence model names one of leanrec's engines, its shape, and which
of the file's arrays is which of the engine's (see the engine's file in runtime/engines; names that are the same need
not be listed; `#` stands for the number of a layer):

    engine = "transformer"
    items = "item_emb.weight"
    skip = 1                                # rows at the start of the item table that are no items, as for padding
    shape = {dim = 64, block = "sasrec", layers = 2, heads = 2, max_length = 50}
    names = {"positions.weight" = "pos_emb.weight", "blocks.#.up.weight" = "encoder.#.ff.0.weight"}

The module must compute what the engine computes: compare a few scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError, InputError
from leanrec.jobs.foreign.base import Arrays, Imported, Importer, factor_source, matrix, pick, read_arrays, source_of
from leanrec.runtime.engines import ENGINES

__all__ = ["TorchConfig", "TorchWeights"]


class TorchConfig(Config, frozen=True, kw_only=True):
    """Settings of `leanrec import torch`."""

    items: str
    """Name of the items' vectors, (N, D)."""
    users: str | None = None
    """Name of the users' vectors, (U, D)."""
    item_bias: str | None = None
    user_bias: str | None = None
    mean: str | None = None
    """Name of a single number that is added to every score."""
    skip: int = 0
    """Rows at the start of the item table (and of its biases) that are no items."""
    skip_users: int = 0
    engine: str = "factors"
    shape: dict[str, Any] = msgspec.field(default_factory=dict)
    """The engine's sizes."""
    names: dict[str, str] = msgspec.field(default_factory=dict)
    """The engine's array -> the file's."""


class TorchWeights(Importer):
    """A two-table dot model, or an encoder of ours with weights from elsewhere."""

    Config: ClassVar[type[Config]] = TorchConfig

    def read(self, path: Path) -> Imported:
        arrays, config = read_arrays(path), self.config
        items_ND = matrix(pick(arrays, config.items, path)[config.skip :], config.items)
        if config.engine == "factors":
            return self._tables(arrays, items_ND, path)
        rest = {name: array for name, array in arrays.items() if name != config.items}
        tensors = {name: np.ascontiguousarray(array) for name, array in _renamed(rest, config.names, path).items()}
        engine = ENGINES[config.engine]
        try:
            loaded = engine.load(config.shape, _floats(tensors), items_ND)
        except InputError as error:
            raise InputError(
                f"{path} does not fit the engine {config.engine!r} ({error}): check shape and names"
            ) from error
        return Imported(source=source_of(config.engine, loaded, items_ND))

    def _tables(self, arrays: Arrays, items_ND: npt.NDArray[np.float32], path: Path) -> Imported:
        config = self.config
        users_UD = None
        if config.users is not None:
            users_UD = matrix(pick(arrays, config.users, path)[config.skip_users :], config.users)
        note = ("unknown users are the mean of the items in their history",)
        if config.item_bias is None and config.user_bias is None and config.mean is None:
            return Imported(source=factor_source("factors", items_ND, users_UD), notes=note)
        mean = 0.0 if config.mean is None else float(pick(arrays, config.mean, path).reshape(-1)[0])
        bias_N = self._bias(arrays, config.item_bias, config.skip, len(items_ND), path)
        table_ND = np.column_stack([items_ND, bias_N, np.ones_like(bias_N)])
        inputs_ND = np.column_stack([items_ND, np.ones_like(bias_N), np.full_like(bias_N, mean)])
        if users_UD is not None:
            bias_U = self._bias(arrays, config.user_bias, config.skip_users, len(users_UD), path)
            users_UD = np.column_stack([users_UD, np.ones_like(bias_U), bias_U + np.float32(mean)])
        return Imported(source=factor_source("factors", table_ND, users_UD, inputs=inputs_ND), notes=note)

    @staticmethod
    def _bias(arrays: Arrays, name: str | None, skip: int, rows: int, path: Path) -> npt.NDArray[np.float32]:
        if name is None:
            return np.zeros(rows, np.float32)
        bias = pick(arrays, name, path).reshape(-1)[skip:].astype(np.float32)
        if len(bias) != rows:
            raise InputError(f"the array {name!r} has {len(bias)} biases for {rows} vectors: is it the right one?")
        return bias


def _renamed(arrays: Arrays, names: Mapping[str, str], path: Path) -> Arrays:
    """The file's arrays, those that have another name under the engine's."""
    found: dict[str, npt.NDArray[Any]] = {}
    used = set(names.values())
    for ours, theirs in names.items():
        if ours.count("#") != theirs.count("#"):
            raise ConfigError(f"names: {ours!r} = {theirs!r}: # stands for the layer on both sides or on neither")
        if "#" not in ours:
            found[ours] = pick(arrays, theirs, path)
            continue
        pattern = re.compile(re.escape(theirs).replace(re.escape("#"), r"(\d+)"))
        matches = [(match, name) for name in arrays if (match := pattern.fullmatch(name))]
        if not matches:
            raise InputError(f"{path} has no array like {theirs!r}; it has: {', '.join(sorted(arrays)[:20])}")
        for match, name in matches:
            found[ours.replace("#", match[1])] = arrays[name]
            used.add(name)
    return {**{name: array for name, array in arrays.items() if name not in used}, **found}


def _floats(tensors: Arrays) -> dict[str, npt.NDArray[Any]]:
    return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in tensors.items()}
