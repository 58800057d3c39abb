"""Every way to run an encoder gives what the engine gives; which one runs is part of the bundle."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from leanrec.core.errors import BundleError, ConfigError, InputError
from leanrec.core.ids import Vocabulary
from leanrec.index import INDEXES
from leanrec.runtime.engines import packed
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.ways import WAYS, DrivenEngine, drive
from leanrec.runtime.ways.choose import choose, overlap
from tests.runtime.encoders import ITEMS, gru, histories, transformer

SHAPES: dict[str, Any] = {
    "esasrec": {},
    "turned": {"block": "sasrec", "positions": "rotary", "layers": 1},
    "both ways": {"positions": "none", "both_ways": True, "heads": 3, "layers": 3},
    "narrow": {"dim": 10, "heads": 1, "positions": "rotary", "hidden": 7},
    "no blocks": {"dim": 8, "layers": 0},
    "wide": {"dim": 96, "heads": 2, "hidden": 130, "window": 140},
}
LOADS = [[1], [69], [3, 1, 60, 17, 33, 2]]


def agree(name: str, shape: dict[str, Any], tolerance: float) -> None:
    engine = transformer(**shape)
    way = WAYS[name](engine, 2)
    for lengths in LOADS:
        asked = histories(lengths)
        expected = engine.encode(asked)
        np.testing.assert_allclose(way.encode(asked), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_fixed_point_is_close(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_WORTH_THREADS", 1)
    agree("fixed", SHAPES[shape], 3e-3)


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("worth", [1, 1 << 60])
def test_one_call_in_float32_is_the_engine(shape: str, worth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_WORTH_THREADS", worth)
    agree("packed", SHAPES[shape], 1e-5)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_graphs_are_the_engine(name: str) -> None:
    pytest.importorskip(name)
    agree(name, {}, 1e-4)


def test_int8_graphs_find_the_same_items() -> None:
    pytest.importorskip("onnxruntime")
    engine, asked = transformer(), histories([20, 9, 31])
    found = WAYS["onnxruntime-int8"](engine, 1).encode(asked)
    assert overlap(engine.items_ND, found, engine.encode(asked)) > 0.6


def test_eager_torch_is_the_engine() -> None:
    agree("torch", {}, 1e-5)
    assert not WAYS["torch"].serves


def test_a_bundle_says_how_it_runs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    engine, asked = transformer(), histories([5, 9])
    driven = drive(engine, {"name": "onnxruntime", "threads": 1})
    assert isinstance(driven, DrivenEngine)
    source = EmbeddingSource("esasrec", driven, INDEXES["exact"].build(engine.items_ND))
    Recommender(source, Vocabulary([f"i{n}" for n in range(ITEMS)]), repeats=True).save(tmp_path / "bundle")
    loaded = Recommender.load(tmp_path / "bundle").source
    assert isinstance(loaded, EmbeddingSource) and isinstance(loaded.engine, DrivenEngine)
    assert loaded.engine.way == {"name": "onnxruntime", "threads": 1}
    np.testing.assert_allclose(loaded.engine.encode(asked), engine.encode(asked), rtol=1e-4, atol=1e-5)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "leanrec.runtime.ways.onnx_runtime")
    without = Recommender.load(tmp_path / "bundle").source
    assert isinstance(without, EmbeddingSource) and isinstance(without.engine, DrivenEngine)
    assert without.engine.driver.name == "plain" and without.config() == loaded.config()
    np.testing.assert_array_equal(without.engine.encode(asked), engine.encode(asked))
    assert "pip install 'leanrec[onnx]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"name": "fixed"},
        {"name": "fixed", "threads": 0},
        {"name": "?", "threads": 1},
        {"name": "torch", "threads": 1},
    ],
)
def test_a_way_that_is_none_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        drive(transformer(), wanted)


def test_what_a_way_cannot_run_is_said() -> None:
    with pytest.raises(InputError, match="'gru' cannot run as 'fixed'"):
        WAYS["fixed"](gru(), 1)
    with pytest.raises(ConfigError, match="did you mean 'fixed'"):
        WAYS["fixd"]


def test_the_best_way_is_measured() -> None:
    engine = transformer()
    found = choose(engine, {"one": histories([30]), "some": histories([5, 8, 3])}, ways=("plain", "torch"), repeats=2)
    assert [one.name for one in found.table if one.threads == 1] == ["plain", "torch"]
    assert found.best.name == "plain" and found.best.overlap == 1.0
    assert set(found.best.seconds) == {"one", "some"}
