"""The step `index`: exact indexes change nothing, approximate ones say what they find, and bundles come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from leanrec.compression.base import Plan, make_step
from leanrec.compression.compress import compress
from leanrec.compression.verify import verify
from leanrec.core.errors import ConfigError
from leanrec.runtime.recommender import Recommender
from tests.compression.contract import StepContract, answers
from tests.compression.toys import transformer, work, world


class TestCertifiedInt4(StepContract):
    entry: ClassVar[Any] = "index"

    def test_answers_are_the_same(self, before: Recommender, after: Recommender) -> None:
        np.testing.assert_array_equal(answers(after), answers(before))


class TestIvf(StepContract):
    entry: ClassVar[Any] = {"step": "index", "kind": "ivf-int4", "settings": {"probes": 3, "lists": 6}}


class TestFastest(StepContract):
    entry: ClassVar[Any] = {"step": "index", "kind": "fastest", "recall": 0.9}


@pytest.mark.parametrize(
    ("kind", "settings"), [("certified-int4", {}), ("ivf-int4", {"probes": 2, "lists": 8}), ("faiss-hnsw", {})]
)
def test_a_bundle_is_verified_and_answers_alike(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    if kind.startswith("faiss"):
        pytest.importorskip("faiss")
    before = transformer()
    before.save(tmp_path / "fat")
    plan = Plan(steps=({"step": "index", "kind": kind, "settings": settings},))
    lean = compress(before, world(), plan=plan)
    exact = kind == "certified-int4"
    lean.save(tmp_path / "lean")
    stored = Recommender.load(tmp_path / "lean")
    assert stored.source.index.name == kind  # type: ignore[attr-defined]
    np.testing.assert_array_equal(answers(stored), answers(lean))
    assert (answers(stored) == answers(before)).all() or not exact
    assert str(verify(tmp_path / "lean"))
    again, said = make_step("index" if exact else plan.steps[0]).apply(before, work())
    assert said.lossless is exact and again is not before
    assert 0 < said.facts["recall"] <= 1


def test_removed_rows_stay_removed() -> None:
    before = transformer()
    source: Any = before.source
    from leanrec.compression.base import with_source
    from leanrec.runtime.sources.embedding import EmbeddingSource

    top = np.unique(answers(before)[:, 0])
    left = with_source(before, EmbeddingSource(source.name, source.engine, source.index.remove(top)))
    for kind in ("certified-int4", "ivf-int4"):
        after, record = make_step({"step": "index", "kind": kind}).apply(left, work())
        assert record.applied
        assert not np.isin(after.source.index.search(source.engine.encode(work().histories), 5).items_BK, top).any()  # type: ignore[attr-defined]


def test_settings_that_cannot_be() -> None:
    for entry, said in (
        ({"step": "index", "kind": "ivf"}, "unknown index 'ivf'"),
        ({"step": "index", "kind": "ivf-int4", "settings": {"probs": 3}}, "probs"),
        ({"step": "index", "kind": "fastest", "settings": {"probes": 3}}, "found with its settings"),
        ({"step": "index", "kind": "fastest", "recall": 0}, "recall lies above 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_step(entry)


def test_vectors_kept_otherwise_are_left_alone() -> None:
    coded, record = make_step({"step": "items", "kind": "int8"}).apply(transformer(), work())
    assert record.applied
    for kind in ("certified-int4", "fastest"):
        same, record = make_step({"step": "index", "kind": kind}).apply(coded, work())
        assert same is coded and not record.applied and "int8" in record.said
