"""What each kind of dense layer buys an `esasrec` encoder on this machine: `python -m benchmarks.dense_kinds`.

Weights are random, times do not depend on them: milliseconds of one history of 200 events, one of 10, and 64 of 20, all
layers of one kind, one thread, kinds taking turns, medians of nine rounds; and bytes of the encoder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.compression.masks import KINDS, Pattern, mask_of
from leanrec.core.console import format_table
from leanrec.core.jagged import Jagged
from leanrec.kernels.blas import blas_threads
from leanrec.runtime.dense import DENSE, DenseLayer, dense_names, make_dense, put_dense
from leanrec.runtime.dense.plain import LowRank
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape

SIZES = ((64, 2, 2), (128, 2, 2), (256, 4, 4))
ROUNDS = 9
F32 = npt.NDArray[np.float32]
Make = Callable[[F32, F32], DenseLayer]
Tensors = Mapping[str, npt.NDArray[Any]]


def kinds(dim: int) -> dict[str, Make]:
    """Name -> how a matrix becomes a layer."""
    found: dict[str, Make] = {"float32": DENSE["float32"].encode}
    for kind in ("bfloat16", "int8", "int8-static", "int8-weight", "int4-weight", "sparse-2:4"):
        found[kind] = DENSE[kind].encode
    for pattern, share in (("free", 0.8), ("free", 0.9), ("block", 0.5), ("block", 0.75)):
        found[f"{KINDS[pattern]}, {share:.0%} zero"] = _sparse(pattern, share)  # type: ignore[index, arg-type]
    found["low-rank, D / 4"] = lambda weight, bias: LowRank.of_rank(weight, bias, dim // 4)
    return found


def _sparse(pattern: Pattern, share: float) -> Make:
    def make(weight_OD: F32, bias_O: F32) -> DenseLayer:
        kept_OD = mask_of(np.abs(weight_OD).astype(np.float64), pattern, share)
        return DENSE[KINDS[pattern]].encode(weight_OD * kept_OD, bias_O)

    return make


def tensors(dim: int, layers: int) -> dict[str, npt.NDArray[Any]]:
    """An `esasrec` encoder at random, with a window of 200."""
    rng, hidden = np.random.default_rng(0), 4 * dim
    sizes = {"attention.qkv": (3 * dim, dim), "attention.out": (dim, dim), "up": (2 * hidden, dim)}
    sizes |= {"down": (dim, hidden), "gate1": (dim, dim), "gate2": (dim, dim)}
    found: dict[str, npt.NDArray[Any]] = {"positions.weight": rng.standard_normal((200, dim), dtype=np.float32)}
    for block in range(layers):
        for name, (outputs, inputs) in sizes.items():
            weight = rng.standard_normal((outputs, inputs), dtype=np.float32) / np.float32(inputs**0.5)
            found |= {f"blocks.{block}.{name}.weight": weight, f"blocks.{block}.{name}.bias": weight[:, 0].copy()}
    for norm in ("norm", *(f"blocks.{block}.norm{n}" for block in range(layers) for n in (1, 2))):
        found |= {f"{norm}.weight": np.ones(dim, np.float32), f"{norm}.bias": np.zeros(dim, np.float32)}
    return found


def measure(dim: int, layers: int, heads: int) -> list[list[str]]:
    """Rows of kind, bytes, and milliseconds with the speed-up over float32."""
    rng = np.random.default_rng(1)
    plain, items_ND = tensors(dim, layers), rng.standard_normal((5000, dim), dtype=np.float32)
    shape = TransformerShape(block="ligr", dim=dim, layers=layers, heads=heads, max_length=200)
    asked = [
        Jagged.from_rows([rng.integers(0, 5000, length)] * count) for length, count in ((200, 1), (10, 1), (20, 64))
    ]
    engines = {}
    for name, make in kinds(dim).items():
        made: Tensors = plain
        for layer in dense_names(plain):
            whole = make_dense(plain, layer)
            made = put_dense(made, layer, make(whole.weight(), whole.bias))
        engines[name] = TransformerEngine(shape, made, items_ND)
    for engine in engines.values():
        _encode_ms(engine, asked)
    rounds = [{name: _encode_ms(engine, asked) for name, engine in engines.items()} for _ in range(ROUNDS)]
    medians = {name: np.median([one[name] for one in rounds], axis=0) for name in engines}
    rows = []
    for name, engine in engines.items():
        size = sum(array.nbytes for array in engine.tensors().values())
        cells = [f"{ms:.3f} ({full / ms:.2f}x)" for ms, full in zip(medians[name], medians["float32"], strict=True)]
        rows.append([name, f"{size:,}", *cells])
    return rows


def _encode_ms(engine: TransformerEngine, asked: list[Jagged]) -> list[float]:
    found = []
    for histories in asked:
        start = time.perf_counter()
        engine.encode(histories)
        engine.encode(histories)
        found.append(500 * (time.perf_counter() - start))
    return found


if __name__ == "__main__":
    with blas_threads(1):
        for dim, layers, heads in SIZES:
            print(f"d {dim}, {layers} layers")
            print(format_table(["kind", "bytes", "200 events", "10 events", "64 x 20"], measure(dim, layers, heads)))
