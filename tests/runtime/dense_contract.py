"""What every kind of dense layer promises; a kind's tests inherit it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import BundleError
from leanrec.core.tensors import map_tensors, write_tensors
from leanrec.runtime.dense import DENSE, DenseLayer, dense_names, dense_size, make_dense, put_dense
from leanrec.runtime.engines.arrays import refuse_misfits

F32 = npt.NDArray[np.float32]


def plain(outputs: int, dim: int, seed: int = 0) -> dict[str, F32]:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outputs, dim)).astype(np.float32) / np.float32(dim**0.5)
    weight[rng.random((outputs, dim)) < 0.3] = 0
    return {"a.weight": weight, "a.bias": rng.standard_normal(outputs).astype(np.float32)}


class DenseContract:
    """Subclasses name the kind and how far its matrix may be from the one it was made of, a share of the largest."""

    kind: ClassVar[str]
    error: ClassVar[float] = 0.0
    sums: ClassVar[float] = 1e-4
    """How far outputs may be from the product with `weight()`, a share of the sum of sizes."""
    damage: ClassVar[dict[str, Any]] = {}
    """Part -> a change of its array that has to be refused, beside those of shape and type."""

    def made(self, outputs: int, dim: int, seed: int = 0) -> tuple[dict[str, F32], DenseLayer]:
        arrays = plain(outputs, dim, seed)
        return arrays, DENSE[self.kind].encode(arrays["a.weight"], arrays["a.bias"])

    def test_it_multiplies_by_the_matrix_it_stands_for(self) -> None:
        @settings(max_examples=25, deadline=None)
        @given(
            tokens=st.sampled_from([0, 1, 2, 65, 130]), dim=st.integers(1, 70), outputs=st.integers(1, 20),
            seed=st.integers(0, 2**32 - 1),
        )  # fmt: skip
        def check(tokens: int, dim: int, outputs: int, seed: int) -> None:
            arrays, layer = self.made(outputs, dim, seed)
            assert layer.size == (outputs, dim)
            x_TD = np.random.default_rng(seed).standard_normal((tokens, dim)).astype(np.float32)
            matrix = layer.weight()
            assert matrix.shape == (outputs, dim) and matrix.dtype == np.float32
            assert np.abs(matrix - arrays["a.weight"]).max() <= self.error * np.abs(arrays["a.weight"]).max() + 1e-6
            found = layer(x_TD)
            assert found.dtype == np.float32 and found.shape == (tokens, outputs)
            sizes = (np.abs(x_TD).sum(axis=1, keepdims=True) + dim) * np.abs(matrix).max() + 1
            assert (np.abs(found - (x_TD.astype(np.float64) @ matrix.T + layer.bias)) <= self.sums * sizes).all()

        check()

    def test_a_part_gives_the_same_outputs(self) -> None:
        @settings(max_examples=15, deadline=None)
        @given(outputs=st.integers(2, 20), dim=st.integers(1, 40), at=st.data())
        def check(outputs: int, dim: int, at: st.DataObject) -> None:
            _, layer = self.made(outputs, dim)
            low = at.draw(st.integers(0, outputs - 1))
            high = at.draw(st.integers(low + 1, outputs))
            x_TD = np.random.default_rng(1).standard_normal((5, dim)).astype(np.float32)
            part = layer.part(low, high)
            assert part.size == (high - low, dim)
            np.testing.assert_allclose(part(x_TD), layer(x_TD)[:, low:high], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(part.weight(), layer.weight()[low:high], atol=1e-6)

        check()

    def test_it_is_stored_and_mapped(self, tmp_path: Path) -> None:
        arrays, layer = self.made(12, 20)
        stored = put_dense({**arrays, "b": np.zeros(1)}, "a", layer)
        assert dense_names(stored) == ["a"]
        write_tensors(tmp_path / "x.safetensors", stored)
        mapped = map_tensors(tmp_path / "x.safetensors")
        again = make_dense(mapped, "a")
        assert again.kind == self.kind and again.nbytes == layer.nbytes and dense_size(mapped, "a") == (12, 20)
        x_TD = np.random.default_rng(2).standard_normal((7, 20)).astype(np.float32)
        np.testing.assert_array_equal(again(x_TD), layer(x_TD))
        back = put_dense(mapped, "a", DENSE["float32"].encode(arrays["a.weight"], arrays["a.bias"]))
        assert set(back) == {"a.weight", "a.bias", "b"}

    def test_what_does_not_fit_is_refused(self) -> None:
        arrays, layer = self.made(12, 20)
        stored = put_dense(arrays, "a", layer)
        changes = {
            "shorter": lambda a: a[:-1], "deeper": lambda a: a[None], "other type": lambda a: a.astype(np.float64),
            "empty": lambda a: a.ravel()[:0],
        }  # fmt: skip
        for part in layer.parts:
            for change in [*changes.values(), *([self.damage[part]] if part in self.damage else [])]:
                with pytest.raises(BundleError, match="do not have the shape"):
                    refuse_misfits(
                        {**stored, f"a.{part}": change(stored[f"a.{part}"])}, fits=True, dense={"a": (12, 20)}, plain={}
                    )
            with pytest.raises(KeyError, match=f"a.{part}"):
                make_dense({key: array for key, array in stored.items() if key != f"a.{part}"}, "a")
