"""The dense layers of a recommender's encoder: found, watched, timed, and put back changed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.compression.base import Work, with_source
from leanrec.core.console import say
from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.data.dataset import Dataset
from leanrec.kernels.blas import blas_threads
from leanrec.runtime.base import Engine
from leanrec.runtime.dense import DENSE, DenseLayer, Inputs, dense_names, make_dense, put_dense
from leanrec.runtime.dense.plain import Observed
from leanrec.runtime.engines import ENGINES
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.ways import DrivenEngine, drive

__all__ = [
    "calibration", "dense_layers", "encoder_bytes", "in_rows", "observe", "plain_tensors", "run_alike",
    "time_layers", "usual_length", "with_layers", "with_tensors",
]  # fmt: skip

Tensors = Mapping[str, npt.NDArray[Any]]
_SECONDS = 0.02


def dense_layers(
    model: Recommender, patterns: Iterable[str] = ("*",), kinds: Iterable[str] | None = ("float32",)
) -> dict[str, DenseLayer]:
    """The encoder's layers of these kinds (None: of all) whose name matches a pattern; none where it has no encoder."""
    if not isinstance(model.source, EmbeddingSource):
        return {}
    tensors = model.source.engine.tensors()
    layers = {name: make_dense(tensors, name) for name in dense_names(tensors)}
    return {
        name: layer
        for name, layer in layers.items()
        if (kinds is None or layer.kind in kinds) and any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def with_tensors(model: Recommender, tensors: Tensors, config: Mapping[str, Any] | None = None) -> Recommender:
    """The same recommender with other arrays in its encoder, and another shape of it where `config` says one."""
    source = model.source
    assert isinstance(source, EmbeddingSource), "there is an encoder"
    engine = ENGINES[source.engine.kind].load(config or source.engine.config(), tensors, source.items)
    return with_source(model, EmbeddingSource(source.name, run_alike(source.engine, engine), source.index))


def run_alike(before: Engine, after: Engine) -> Engine:
    """The engine after a step, run in the way of the one before; as it is where it cannot be, which is said."""
    if not isinstance(before, DrivenEngine):
        return after
    try:
        return drive(after, before.way)
    except BundleError as error:
        say(f"{error}; the step `engine` finds another way")
        return after


def with_layers(model: Recommender, layers: Mapping[str, DenseLayer]) -> Recommender:
    """The same recommender with these layers in place of those of the same name."""
    assert isinstance(model.source, EmbeddingSource), "there is an encoder"
    tensors = model.source.engine.tensors()
    for name, layer in layers.items():
        tensors = put_dense(tensors, name, layer)
    return with_tensors(model, tensors)


def plain_tensors(tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
    """The arrays with every dense layer as the float32 matrix that it stands for."""
    result = dict(tensors)
    for name in dense_names(tensors):
        layer = make_dense(tensors, name)
        if layer.kind != "float32":
            result = put_dense(result, name, DENSE["float32"].encode(layer.weight(), layer.bias))
    return result


def encoder_bytes(model: Recommender) -> int:
    """Bytes of the encoder's arrays, the item table apart."""
    assert isinstance(model.source, EmbeddingSource), "there is an encoder"
    return sum(array.nbytes for array in model.source.engine.tensors().values())


def in_rows(model: Recommender, data: Dataset, items: Jagged) -> Jagged:
    """Rows of the data set's items as rows of the model's, without those that it does not know."""
    if model.items == data.items:
        return items
    rows = Jagged(model.items.rows(data.items.ids())[items.values], items.offsets)
    return rows.where(rows.values >= 0)


def calibration(model: Recommender, work: Work, count: int) -> Jagged:
    """Training histories of at most `count` users that tune, the same ones for one seed; none of them is empty."""
    known = in_rows(model, work.data, work.data.train())
    users = np.flatnonzero((known.lengths > 0) & ~work.data.certify)
    chosen = np.random.default_rng(work.seed).permutation(users)[:count]
    return known.take(np.sort(chosen))


def observe(model: Recommender, names: Iterable[str], histories: Jagged) -> dict[str, Inputs]:
    """What the inputs of these layers are like when the histories are encoded."""
    layers = dense_layers(model, names, kinds=None)
    watching = {name: Observed.encode(layer.weight(), layer.bias) for name, layer in layers.items()}
    source = with_layers(model, watching).source
    assert isinstance(source, EmbeddingSource)
    with blas_threads(1):
        source.engine.encode(histories)
    return {name: layer.seen() for name, layer in watching.items()}


def usual_length(work: Work) -> int:
    """Events of a usual history, as it is asked about."""
    return max(1, int(np.median(work.histories.lengths)))


def time_layers(layers: Mapping[str, DenseLayer], tokens: int) -> float:
    """Seconds of all layers once, one after the other, on one thread."""
    rng = np.random.default_rng(0)
    with blas_threads(1):
        return sum(
            _fastest(layer, rng.standard_normal((tokens, layer.size[1]), dtype=np.float32)) for layer in layers.values()
        )


def _fastest(layer: DenseLayer, x_TD: npt.NDArray[np.float32]) -> float:
    layer(x_TD)
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while (now := time.perf_counter()) < end:
        layer(x_TD)
        best = min(best, time.perf_counter() - now)
    return best
