"""`leanrec export` as a person meets it: the file answers as the bundle does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from leanrec.core.ids import Vocabulary
from leanrec.index import INDEXES
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from tests.runtime.encoders import ITEMS, transformer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    engine = transformer()
    source = EmbeddingSource("esasrec", engine, INDEXES["exact"].build(engine.items_ND))
    folder = tmp_path_factory.mktemp("export") / "bundle"
    Recommender(source, Vocabulary([f"i{n}" for n in range(ITEMS)]), repeats=False).save(folder)
    return folder


def test_the_file_answers_as_the_bundle_does(leanrec, bundle, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    done = leanrec("export", bundle, "--onnx", tmp_path / "model.onnx", "--k", 5, "--json")
    assert done.code == 0, done.err
    assert done.json["inputs"] == {"rows": "int64 (batch, length)", "lengths": "int64 (batch)"}
    assert done.json["outputs"] == {"items": "int64 (batch, 5)", "scores": "float32 (batch, 5)"}
    ids = json.loads(Path(done.json["ids"]).read_text())
    history = ["i7", "i30", "i7", "i211"]
    rows = np.array([[ids.index(item) for item in history]])
    session = onnxruntime.InferenceSession(done.json["onnx"], providers=["CPUExecutionProvider"])
    (items,) = session.run(["items"], {"rows": rows, "lengths": np.array([4])})
    expected = Recommender.load(bundle).recommend(histories=[history], k=5)
    assert [ids[row] for row in items[0]] == expected["item_id"].to_list()


def test_what_has_no_graph_is_refused(leanrec, bundle, popular_run, tmp_path):
    leanrec("export", popular_run, "--onnx", tmp_path / "model.onnx").refused(2, "no encoder")
    leanrec("export", bundle, "--onnx", tmp_path / "model.onnx", "--k", 0).refused(2, "--k 0")
    leanrec("export", tmp_path / "none", "--onnx", tmp_path / "model.onnx").refused(2, "does not exist")
