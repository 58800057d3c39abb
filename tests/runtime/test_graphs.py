"""ONNX graphs against the engines that they were built from, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.runtime.base import Engine
from leanrec.runtime.engines.factors import FactorsEngine
from leanrec.runtime.graphs import export_graph, graph_of
from tests.runtime.encoders import gru, histories, transformer

onnxruntime = pytest.importorskip("onnxruntime")
ENGINES: dict[str, Engine] = {
    "esasrec": transformer(),
    "one block": transformer(layers=1, positions="rotary"),
    "sasrec": transformer(block="sasrec", positions="rotary", heads=1, layers=3),
    "without positions": transformer(positions="none", heads=3),
    "both ways": transformer(both_ways=True),
    "both ways, turned": transformer(both_ways=True, positions="rotary", block="sasrec"),
    "no blocks": transformer(layers=0),
    "gru": gru(),
}


def answer(model: Any, **inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[npt.NDArray[Any]] = session.run(None, inputs)
    return found


def padded(asked: Jagged, filler: int) -> dict[str, npt.NDArray[np.int64]]:
    rows = np.full((len(asked), asked.lengths.max()), filler, np.int64)
    for place, history in enumerate(asked):
        rows[place, : len(history)] = history
    return {"rows": rows, "lengths": asked.lengths}


@pytest.mark.parametrize("name", ENGINES)
def test_the_query_is_the_engines_whatever_the_padding(name: str) -> None:
    engine, asked = ENGINES[name], histories([5, 1, 31, 17])
    model = graph_of(engine)
    expected = engine.encode(asked)
    for filler in (0, 299):
        (query,) = answer(model, **padded(asked, filler))
        np.testing.assert_allclose(query, expected, rtol=1e-4, atol=1e-5)
    (alone,) = answer(model, **padded(asked.take(np.array([2])), 0))
    np.testing.assert_allclose(alone, expected[2:3], rtol=1e-4, atol=1e-5)


def test_vectors_come_in_where_the_table_stays_out() -> None:
    engine, asked = transformer(), histories([4, 9])
    inputs = padded(asked, 0)
    (query,) = answer(graph_of(engine, table=False), vectors=engine.items_ND[inputs["rows"]], lengths=inputs["lengths"])
    np.testing.assert_allclose(query, engine.encode(asked), rtol=1e-4, atol=1e-5)


def test_answers_leave_out_the_history_and_what_was_erased() -> None:
    engine, asked = transformer(), histories([4, 9])
    scores_BN = engine.encode(asked) @ engine.items_ND.T
    never = np.zeros(300, np.bool_)
    never[scores_BN.argmax(axis=1)] = True
    for place, history in enumerate(asked):
        scores_BN[place, history] = -np.inf
    scores_BN[:, never] = -np.inf
    model = graph_of(engine, k=7, exclude_seen=True, never_N=never)
    outputs = dict(zip([o.name for o in model.graph.output], answer(model, **padded(asked, 3)), strict=True))
    np.testing.assert_array_equal(outputs["items"], np.argsort(-scores_BN, axis=1)[:, :7])
    np.testing.assert_allclose(outputs["scores"], -np.sort(-scores_BN, axis=1)[:, :7], rtol=1e-4)


def test_int8_layers_are_written_in_float32() -> None:
    engine = transformer()
    tensors = dict(engine.tensors())
    tensors["blocks.0.up.scale"] = np.full(100, 0.01, np.float32)
    tensors["blocks.0.up.weight"] = np.clip(np.rint(tensors["blocks.0.up.weight"] / 0.01), -127, 127).astype(np.int8)
    coded, asked = type(engine)(engine.shape, tensors, engine.items_ND), histories([12])
    (query,) = answer(graph_of(coded), **padded(asked, 0))
    np.testing.assert_allclose(query, coded.encode(asked), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_written_is_said() -> None:
    factors = FactorsEngine.__new__(FactorsEngine)
    with pytest.raises(InputError, match="'factors' cannot be written"):
        graph_of(factors)
    with pytest.raises(InputError, match="needs the item table"):
        graph_of(transformer(), table=False, k=3)


def test_a_large_model_keeps_its_arrays_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanrec.runtime.graphs.base._EXTERNAL", 1000)
    engine, asked = transformer(), histories([6])
    export_graph(graph_of(engine), tmp_path / "model.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (query,) = session.run(None, padded(asked, 0))
    np.testing.assert_allclose(query, engine.encode(asked), rtol=1e-4, atol=1e-5)
