"""int8: item vectors scanned as codes with proven bounds, and dense layers of the encoder where that pays."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.compression.base import Step, StepConfig, StepRecord, Work, with_source
from leanrec.compression.encoder import run_alike
from leanrec.index.certified import CertifiedInt8Index
from leanrec.index.vectors import Float32Vectors
from leanrec.kernels.blas import blas_threads
from leanrec.kernels.dense import dense_int8, quantize_weight
from leanrec.runtime.engines import ENGINES
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["Int8Dense", "Int8Items"]

_PAYS = 1.1
"""A step that makes an encoder less than 10 % faster is not worth its error."""
_SECONDS = 0.02


class Int8Items(Step[StepConfig]):
    """The index is replaced; the full rows stay, mapped on disk, to rescore the few that may win."""

    name = "int8-items"
    stage = "index"

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        source = model.source
        if not isinstance(source, EmbeddingSource):
            return self.left(model, f"{source.name} has no item vectors to scan")
        if not isinstance(source.items, Float32Vectors):
            said = f"the item vectors of {source.name} are scanned as {source.items.kind} already"
            return self.left(model, said)
        index = CertifiedInt8Index.over(source.items)
        before, after = source.index.bytes_scanned, index.bytes_scanned
        said = f"a query scans {after:,} bytes instead of {before:,} ({before / after:.2f} times fewer), same answers"
        facts = {"bytes_before": before, "bytes_after": after}
        lean = with_source(model, EmbeddingSource(source.name, source.engine, index))
        return lean, StepRecord(step=self.name, applied=True, lossless=True, said=said, facts=facts)


class Int8Dense(Step[StepConfig]):
    """Each dense layer is timed both ways at the length of a usual history; together they have to be faster in int8."""

    name = "int8-dense"
    stage = "dense"

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        source = model.source
        layers = _dense_layers(source.engine.tensors()) if isinstance(source, EmbeddingSource) else []
        if not layers or not isinstance(source, EmbeddingSource):
            return self.left(model, f"{source.name} has no dense layers in float32")
        tokens = max(1, int(np.median(work.histories.lengths)))
        tensors = source.engine.tensors()
        with blas_threads(1):
            plain, coded = _time_layers(tensors, layers, tokens)
        facts = {"tokens": tokens, "layers": len(layers), "float32_us": 1e6 * plain, "int8_us": 1e6 * coded}
        times = f"{1e6 * plain:.0f} us in float32, {1e6 * coded:.0f} us in int8, {tokens} tokens"
        if coded * _PAYS > plain:
            said = f"dropped, it does not pay on this machine: the dense layers take {times}"
            return self.left(model, said, facts)
        kind, config = ENGINES[source.engine.kind], source.engine.config()
        engine = run_alike(source.engine, kind.load(config, _quantized(tensors, layers), source.items))
        lean = with_source(model, EmbeddingSource(source.name, engine, source.index))
        return lean, StepRecord(step=self.name, applied=True, said=f"the dense layers take {times}", facts=facts)


def _dense_layers(tensors: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Names of the float32 matrices that have a bias beside them."""
    return [
        name.removesuffix(".weight")
        for name, array in tensors.items()
        if name.endswith(".weight")
        and array.ndim == 2
        and array.dtype == np.float32
        and name.removesuffix("weight") + "bias" in tensors
        and name.removesuffix("weight") + "kind" not in tensors
    ]


def _quantized(tensors: Mapping[str, npt.NDArray[Any]], layers: list[str]) -> dict[str, npt.NDArray[Any]]:
    """`NAME.weight` as int8, with `NAME.scale` beside it."""
    result = dict(tensors)
    for layer in layers:
        result[f"{layer}.weight"], result[f"{layer}.scale"] = quantize_weight(tensors[f"{layer}.weight"])
    return result


def _time_layers(tensors: Mapping[str, npt.NDArray[Any]], layers: list[str], tokens: int) -> tuple[float, float]:
    """Seconds of all layers once, in float32 and in int8."""
    rng = np.random.default_rng(0)
    plain = coded = 0.0
    for layer in layers:
        weight_OD, bias_O = tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]
        x_TD = rng.standard_normal((tokens, weight_OD.shape[1]), dtype=np.float32)
        codes_OD, scales_O = quantize_weight(weight_OD)
        plain += _fastest(lambda x, w, b: x @ w.T + b, x_TD, weight_OD, bias_O)
        coded += _fastest(dense_int8, x_TD, codes_OD, scales_O, bias_O)
    return plain, coded


def _fastest(run: Callable[..., object], *arrays: npt.NDArray[Any]) -> float:
    run(*arrays)
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while (now := time.perf_counter()) < end:
        run(*arrays)
        best = min(best, time.perf_counter() - now)
    return best
