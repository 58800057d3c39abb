"""Every kind of dense layer keeps the contract, and its kernels equal their references."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import BundleError
from leanrec.kernels.decode import (
    decode_bfloat16,
    decode_bfloat16_reference,
    decode_int4,
    decode_int4_reference,
    decode_int8,
    decode_int8_reference,
    decode_pairs,
    decode_pairs_reference,
)
from leanrec.kernels.dense import dense_int8_static, dense_int8_static_reference, quantize_weight
from leanrec.kernels.sparse import dense_blocks, dense_blocks_reference, dense_csr, dense_csr_reference
from leanrec.runtime.dense import DENSE, Inputs, make_dense, stored
from leanrec.runtime.dense.base import range_of
from leanrec.runtime.dense.int8 import Int8Static
from leanrec.runtime.dense.plain import LowRank, Observed
from leanrec.runtime.dense.sparse import SparseBlock, SparseCSR
from leanrec.runtime.dense.stored import Int4Weight, Sparse2of4
from tests.runtime.dense_contract import DenseContract, plain


class TestFloat32(DenseContract):
    kind = "float32"


class TestInt8(DenseContract):
    kind = "int8"
    error = 0.005


class TestInt8Static(DenseContract):
    kind = "int8-static"
    error = 0.005
    sums = 0.05
    damage: ClassVar[dict[str, Any]] = {"unit": lambda unit: unit * 0}


class TestInt8Weight(DenseContract):
    kind = "int8-weight"
    error = 0.005


class TestInt4Weight(DenseContract):
    kind = "int4-weight"
    error = 0.5
    damage: ClassVar[dict[str, Any]] = {"form": lambda form: form * [2, 1]}


class TestBFloat16(DenseContract):
    kind = "bfloat16"
    error = 0.004


class TestLowRank(DenseContract):
    kind = "low-rank"
    error = 1.0


class TestSparseCSR(DenseContract):
    kind = "sparse-csr"
    damage: ClassVar[dict[str, Any]] = {
        "columns": lambda columns: columns + np.uint16(20),
        "offsets": lambda offsets: offsets[::-1].copy(),
    }


class TestSparse2of4(DenseContract):
    kind = "sparse-2:4"
    error = 1.0


class TestSparseBlock(DenseContract):
    kind = "sparse-block"
    damage: ClassVar[dict[str, Any]] = {
        "columns": lambda columns: columns + np.int32(3),
        "offsets": lambda offsets: offsets[::-1].copy(),
    }


@pytest.mark.parametrize("kind", ["int8-weight", "int4-weight", "bfloat16", "sparse-2:4"])
def test_large_matrices_are_decoded_by_panels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_KEPT", 0)
    monkeypatch.setattr(stored, "_PANEL", 100)
    arrays = plain(37, 24)
    layer = DENSE[kind].encode(arrays["a.weight"], arrays["a.bias"])
    x_TD = np.random.default_rng(6).standard_normal((9, 24)).astype(np.float32)
    np.testing.assert_allclose(layer(x_TD), x_TD @ layer.weight().T + layer.bias, rtol=1e-4, atol=1e-5)
    assert "_decoded" not in vars(layer)


@settings(max_examples=30, deadline=None)
@given(outputs=st.integers(1, 9), dim=st.integers(1, 70), group=st.integers(1, 80), seed=st.integers(0, 2**32 - 1))
def test_decoding_equals_its_references(outputs: int, dim: int, group: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    out = np.empty((outputs, dim), np.float32)
    codes, scales = rng.integers(-128, 128, (outputs, dim)).astype(np.int8), rng.random(outputs, dtype=np.float32)
    decode_int8(codes, scales, out)
    np.testing.assert_array_equal(out, decode_int8_reference(codes, scales))
    upper = rng.integers(0, 0x7F00, (outputs, dim)).astype(np.uint16)
    decode_bfloat16(upper, out)
    np.testing.assert_array_equal(out, decode_bfloat16_reference(upper))
    nibbles = rng.integers(0, 256, (outputs, -(-dim // 2))).astype(np.uint8)
    by_group = rng.random((outputs, -(-dim // group)), dtype=np.float32)
    decode_int4(nibbles, by_group, group, out)
    np.testing.assert_array_equal(out, decode_int4_reference(nibbles, by_group, group, dim))
    quads = -(-dim // 4)
    values = rng.standard_normal((outputs, 2 * quads)).astype(np.float32)
    places = rng.integers(0, 256, (outputs, -(-quads // 2))).astype(np.uint8)
    decode_pairs(values, places, out)
    np.testing.assert_allclose(out, decode_pairs_reference(values, places, dim), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.sampled_from([0, 1, 63, 64, 65, 129]), outputs=st.integers(1, 30), dim=st.integers(1, 40),
    kept=st.sampled_from([0.0, 0.1, 0.9]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_products_equal_their_references(tokens: int, outputs: int, dim: int, kept: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((outputs, dim)) * (rng.random((outputs, dim)) < kept)).astype(np.float32)
    x_TD, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((tokens, dim), outputs))
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
    for layer, product, reference in (
        (SparseCSR.encode(weight, bias), dense_csr, dense_csr_reference),
        (SparseBlock.encode(weight, bias), dense_blocks, dense_blocks_reference),
    ):
        arrays = [layer.arrays[name] for name in ("weight", "columns", "offsets")]
        np.testing.assert_allclose(product(x_TD, *arrays, bias), reference(x_TD, *arrays, bias), **close)
        np.testing.assert_allclose(product(x_TD, *arrays, bias), x_TD @ weight.T + bias, **close)
    coded = quantize_weight(weight)
    unit = np.float32(0.03)
    found = dense_int8_static(x_TD, *coded, unit, bias)
    np.testing.assert_allclose(found, dense_int8_static_reference(x_TD, *coded, unit, bias), **close)


def skewed(dim: int = 24) -> tuple[npt.NDArray[np.float32], Inputs]:
    """Inputs of which a few directions hold nearly all, and the account of them."""
    rng = np.random.default_rng(3)
    x_TD = rng.standard_normal((400, 4)) @ rng.standard_normal((4, dim)) + 0.05 * rng.standard_normal((400, dim))
    x_TD = x_TD.astype(np.float32)
    return x_TD, Inputs(x_TD.T.astype(np.float64) @ x_TD / len(x_TD), range_of(x_TD))


def lost(layer: Any, x_TD: npt.NDArray[np.float32], arrays: dict[str, Any]) -> float:
    exact = x_TD @ arrays["a.weight"].T + arrays["a.bias"]
    return float(((layer(x_TD) - exact) ** 2).mean() / exact.var())


@pytest.mark.parametrize("kind", [Sparse2of4, LowRank, Int4Weight])
def test_inputs_that_are_known_make_the_error_smaller(kind: Any) -> None:
    x_TD, inputs = skewed()
    x_TD[:, ::2] *= 5
    inputs = Inputs(x_TD.T.astype(np.float64) @ x_TD / len(x_TD), range_of(x_TD))
    arrays = plain(16, 24)
    make = (lambda *given: LowRank.of_rank(*given[:2], 4, *given[2:])) if kind is LowRank else kind.encode
    blind, seeing = (make(arrays["a.weight"], arrays["a.bias"], *given) for given in ((), (inputs,)))
    assert lost(seeing, x_TD, arrays) < lost(blind, x_TD, arrays)


def test_the_rank_follows_the_energy() -> None:
    x_TD, inputs = skewed()
    arrays = plain(16, 24)
    layer = LowRank.encode(arrays["a.weight"], arrays["a.bias"], inputs)
    assert layer.arrays["up"].shape[1] <= 4
    assert lost(layer, x_TD, arrays) < 0.011
    full = LowRank.of_rank(arrays["a.weight"], arrays["a.bias"], 99)
    np.testing.assert_allclose(full.weight(), arrays["a.weight"], atol=1e-5)


def test_a_calibrated_range_cuts_off_what_is_rare() -> None:
    x_T = np.random.default_rng(4).standard_normal(200_000).astype(np.float32)
    x_T[0] = 20
    limit = Inputs(np.eye(1), range_of(x_T)).limit(127)
    assert 4 < limit < 15
    errors = []
    for top in (limit, 20.5):
        layer = Int8Static.encode(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
        layer.arrays["unit"] = np.asarray([top / 127], np.float32)
        errors.append(((layer(x_T[:, None])[:, 0] - x_T) ** 2).mean())
    assert errors[0] < errors[1]
    assert Inputs(np.eye(1), range_of(x_T * 0)).limit(127) == 1


def test_observed_layers_keep_account_and_cannot_be_served() -> None:
    arrays = plain(6, 8)
    layer = Observed.encode(arrays["a.weight"], arrays["a.bias"])
    x_TD = np.random.default_rng(5).standard_normal((30, 8)).astype(np.float32)
    found = np.concatenate([layer.part(0, 2)(x_TD[:10]), layer.part(2, 6)(x_TD[:10])], axis=1)
    np.testing.assert_allclose(found, x_TD[:10] @ arrays["a.weight"].T + arrays["a.bias"], atol=1e-6)
    layer(x_TD[10:])
    seen = layer.seen()
    assert seen.sizes.sum() == 40 * 8
    twice = np.concatenate([x_TD[:10], x_TD])
    np.testing.assert_allclose(seen.square_DD, twice.T @ twice / 40, atol=1e-5)
    frozen = {name: np.array(array) for name, array in layer.arrays.items()}
    frozen["square"].flags.writeable = False
    assert Observed.size_of(frozen) is None


def test_a_kind_that_is_not_known_is_one_sentence() -> None:
    arrays: dict[str, Any] = plain(3, 4)
    with pytest.raises(BundleError, match=r"unknown dense layer 'int3'.*update leanrec"):
        make_dense({**arrays, "a.kind": np.frombuffer(b"int3", np.uint8)}, "a")
    with pytest.raises(BundleError, match="is not a word"):
        make_dense({**arrays, "a.kind": np.zeros((2, 2))}, "a")
