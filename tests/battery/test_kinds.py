"""Every kind of bundle there is: stored and loaded again, asked alone and in a batch, in Python and over HTTP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Request
from leanrec.events.sqlite import SqliteStore
from leanrec.runtime.recommender import Recommender
from tests.serving.harness import Local

from .kinds import KINDS, built, histories, missing, registries


def test_every_kind_has_a_builder() -> None:
    assert {"index", "engine", "source", "compression step"} <= set(registries())
    assert not missing(), "\n".join(missing())


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(kind))
def model(request: pytest.FixtureRequest) -> Recommender:
    return built(*request.param)


def test_what_is_stored_answers_alike(model: Recommender, tmp_path: Path) -> None:
    identity = model.save(tmp_path / "b")
    stored = Recommender.load(tmp_path / "b")
    before, after = (one.rank(histories(9), 7)[0] for one in (model, stored))
    np.testing.assert_array_equal(before.items_BK, after.items_BK)
    np.testing.assert_array_equal(before.scores_BK, after.scores_BK)
    assert stored.save(tmp_path / "again") == identity == model.id


def test_a_batch_of_64_is_64_singles(model: Recommender) -> None:
    asked = histories(64)
    together, degraded_B = model.rank(asked, 7)
    for row in range(64):
        alone, degraded = model.rank(asked.slice(row, row + 1), 7)
        np.testing.assert_array_equal(alone.items_BK[0], together.items_BK[row])
        np.testing.assert_allclose(alone.scores_BK[0], together.scores_BK[row], rtol=2e-5, atol=1e-6)
        assert degraded[0] == degraded_B[row]


def test_the_same_over_http_as_in_python(model: Recommender, tmp_path: Path) -> None:
    """As JSON through the application that serves; the server around it is tested with one bundle in tests/serving."""
    model.save(tmp_path / "b")
    asked = [model.items.ids(row) for row in histories(6)]
    wanted = model.answer([Request(history=history, k=5) for history in asked])
    asked = [[str(item) for item in history] for history in asked]
    store = SqliteStore(tmp_path / "events.sqlite")
    local = Local(Recommender.load(tmp_path / "b"), store)
    try:
        batch = local.ask("POST", "/v1/recommend", {"batch": [{"history": h, "k": 5} for h in asked]}).json["batch"]
        single = [local.ask("POST", "/v1/recommend", {"history": h, "k": 5}).json for h in asked]
    finally:
        local.close()
        store.close()
    for told in (batch, single):
        for ranking, answer in zip(wanted, told, strict=True):
            assert [item["item_id"] for item in answer["items"]] == list(map(str, ranking.item_ids))
            np.testing.assert_allclose(
                [item["score"] for item in answer["items"]], ranking.scores, rtol=2e-5, atol=1e-6
            )
            assert answer["degraded"] == ranking.degraded


def test_an_edited_chunk_is_refused(model: Recommender, tmp_path: Path) -> None:
    model.save(tmp_path / "b")
    for path in sorted((tmp_path / "b").glob("*.*")):
        if path.name == "manifest.json":
            continue
        raw = path.read_bytes()
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        with pytest.raises(BundleError, match=f"{path.name} was changed after it was written"):
            Recommender.load(tmp_path / "b")
        path.write_bytes(raw)
    Recommender.load(tmp_path / "b")


def test_an_empty_history_is_answered_by_the_fallback(model: Recommender) -> None:
    hits, degraded_B = model.rank(Jagged.from_rows([[]]), 3)
    assert degraded_B.tolist() == [True]
    assert (hits.items_BK >= 0).all()
