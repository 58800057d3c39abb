"""Memory of a bundle does not depend on who else has it open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.compression.measure import Measurement, measure
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.index.exact import ExactIndex
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from tests.compression.toys import DIM, HEADS, LAYERS, LENGTH, arrays, transformer

ROWS = 600_000


def test_memory_is_as_if_nobody_else_had_the_bundle_open(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((ROWS, DIM), dtype=np.float32)
    shape = TransformerShape(block="ligr", dim=DIM, layers=LAYERS, heads=HEADS, max_length=LENGTH)
    engine = TransformerEngine(shape, arrays("ligr"), table)
    source = EmbeddingSource("large", engine, ExactIndex.build(table))
    model = Recommender(source, Vocabulary(np.arange(ROWS)), repeats=True)
    model.save(tmp_path / "run" / "bundle")
    del model, source, engine

    def measured() -> Measurement:
        asked = Jagged.from_rows([[1, 2, 3], [ROWS - 1]])
        return measure(tmp_path / "run", asked, seconds=0.1)

    alone = measured()
    mapped = Recommender.load(tmp_path / "run")
    assert isinstance(mapped.source, EmbeddingSource) and isinstance(mapped.source.index, ExactIndex)
    assert np.isfinite(mapped.source.index.items_ND.sum())  # so that its pages are those of this process too
    shared = measured()
    assert alone.pss > table.nbytes
    for field in ("pss", "private", "rss"):
        assert abs(getattr(shared, field) - getattr(alone, field)) < table.nbytes / 4


def test_a_process_that_had_loops_to_compile_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "compiled"))
    transformer().save(tmp_path / "bundle")
    first = measure(tmp_path / "bundle", Jagged.from_rows([[1, 2, 3]]), seconds=0.1)
    second = measure(tmp_path / "bundle", Jagged.from_rows([[1, 2, 3]]), seconds=0.1)
    assert list((tmp_path / "compiled").rglob("*.nbc")), "loops were compiled"
    assert not first.compiled
    assert not second.compiled
    assert abs(first.pss - second.pss) < 30e6
