"""Dense layers that serve without torch, by their `kind` in `DENSE`; an engine asks `make_dense` for each of its own.

In a bundle a layer NAME is the arrays `NAME.bias`, `NAME.weight` and whatever else its kind keeps, and `NAME.kind`, the
letters of the kind's name as uint8. Without `NAME.kind` it is `float32`, or `int8` where the weight is of that type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.registry import Entry, Registry
from leanrec.runtime.dense.base import DenseLayer, Inputs

__all__ = ["DENSE", "DenseLayer", "Inputs", "dense_names", "dense_size", "make_dense", "put_dense"]

Tensors = Mapping[str, npt.NDArray[Any]]

DENSE: Registry[DenseLayer] = Registry(
    "dense layer",
    {
        "float32": Entry("leanrec.runtime.dense.plain:Float32", "x W^T + b by BLAS"),
        "int8": Entry("leanrec.runtime.dense.int8:Int8", "int8 by output, inputs rounded row by row"),
        "int8-static": Entry("leanrec.runtime.dense.int8:Int8Static", "int8 by output, inputs in a calibrated range"),
        "int8-weight": Entry("leanrec.runtime.dense.stored:Int8Weight", "int8 by output, multiplied in float32"),
        "int4-weight": Entry("leanrec.runtime.dense.stored:Int4Weight", "int4 in groups, multiplied in float32"),
        "bfloat16": Entry("leanrec.runtime.dense.stored:BFloat16", "the upper halves, multiplied in float32"),
        "low-rank": Entry("leanrec.runtime.dense.plain:LowRank", "two thin factors"),
        "sparse-csr": Entry("leanrec.runtime.dense.sparse:SparseCSR", "the weights that are not zero, row by row"),
        "sparse-2:4": Entry("leanrec.runtime.dense.stored:Sparse2of4", "two weights of every four inputs"),
        "sparse-block": Entry("leanrec.runtime.dense.sparse:SparseBlock", "the blocks that are not all zero"),
        "observed": Entry("leanrec.runtime.dense.plain:Observed", "float32, and an account of its inputs"),
    },
)


def make_dense(tensors: Tensors, name: str) -> DenseLayer:
    """The layer of that name; its arrays are kept as they are, mapped or not."""
    kind = _kind(tensors, name)
    arrays = {part: tensors[f"{name}.{part}"] for part in kind.parts}
    size = kind.size_of(arrays)
    if size is None:
        raise BundleError(f"the encoder's arrays of {name!r} do not have the shape that a {kind.kind} layer has")
    return kind(arrays, size)


def dense_size(tensors: Tensors, name: str) -> tuple[int, int]:
    """(O, D) outputs and inputs of a layer, as its arrays agree on; a BundleError when they do not."""
    kind = _kind(tensors, name)
    size = kind.size_of({part: tensors[f"{name}.{part}"] for part in kind.parts})
    if size is None:
        raise BundleError(f"the encoder's arrays of {name!r} do not have the shape that a {kind.kind} layer has")
    return size


def put_dense(tensors: Tensors, name: str, layer: DenseLayer) -> dict[str, npt.NDArray[Any]]:
    """The arrays with `layer` in place of the one of that name."""
    gone = {f"{name}.{part}" for part in ("kind", *_kind(tensors, name).parts)}
    kept = {key: array for key, array in tensors.items() if key not in gone}
    kept |= {f"{name}.{part}": array for part, array in layer.arrays.items()}
    letters = np.frombuffer(layer.kind.encode(), np.uint8).copy()
    return kept if layer.kind == "float32" else {**kept, f"{name}.kind": letters}


def dense_names(tensors: Tensors) -> list[str]:
    """The layers among the arrays of an engine: what has a matrix and a bias, or says its kind."""
    found = dict[str, None]()
    for key, array in tensors.items():
        name, _, part = key.rpartition(".")
        matrix = part == "weight" and array.ndim == 2 and f"{name}.bias" in tensors
        if part == "kind" or matrix:
            found[name] = None
    return list(found)


def _kind(tensors: Tensors, name: str) -> type[DenseLayer]:
    said = tensors.get(f"{name}.kind")
    if said is None:
        return DENSE["int8" if tensors[f"{name}.weight"].dtype == np.int8 else "float32"]
    try:
        if said.dtype != np.uint8 or said.ndim != 1:
            raise ConfigError("the kind of a dense layer is not a word")
        return DENSE[said.tobytes().decode("ascii", "replace")]
    except ConfigError as error:
        raise BundleError(f"{name}: {error}: update leanrec, or write the bundle again") from error
