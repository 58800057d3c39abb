"""New items in a bundle that is there: vectors from attributes and texts, old answers as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.core.nouns import Request
from leanrec.data.dataset import Dataset
from leanrec.jobs.add_items import AddItemsJob, add_items
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender

from ..nn.tiny_bert import tiny_bert
from .packs import SMALL
from .worlds import ITEMS, shop

_TEXT = {"encoder": tiny_bert(), "precision": "float32"}
GROWING: dict[str, tuple[str, dict[str, Any]]] = {
    "content": ("content", {"columns": {"title": 1.0, "category": 1.0}, "half_life": 0}),
    "mean": ("text-encoder", {"encoder": tiny_bert(), "head": "mean"}),
    "frozen": ("text-encoder", {**SMALL, **_TEXT, "max_length": 10}),
    "gate": ("esasrec", {**SMALL, "text": "gate", "text_options": {"encoder": tiny_bert()}, "precision": "float32"}),
    "align": (
        "esasrec", {**SMALL, "text": "align", "text_options": {"encoder": tiny_bert()}, "objective_options": {}},
    ),
    "two-tower": ("two-tower", {"dim": 8, "epochs": 2, "negatives": 16, "batch": 64}),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEANREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shop()


@pytest.fixture(scope="module", params=GROWING)
def bundle(request: pytest.FixtureRequest, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, settings = GROWING[request.param]
    folder = tmp_path_factory.mktemp("bundles") / request.param
    MODELS[name](**settings).fit(data, seed=1).save(folder)
    return folder


def _table(path: Path) -> Path:
    """Two items like others, one of which has a column that nobody knows, and one that is there already."""
    frame = pl.DataFrame(
        {
            "item_id": ["fresh-even", "item3", "fresh-odd"],
            "title": ["Item2", "Anything", "Item3"],
            "category": ["even", "even", "odd"],
            "colour": ["red", None, "blue"],
        }
    )
    frame.write_parquet(path)
    return path


def test_new_items_come_after_the_old_ones_and_can_be_answered(bundle: Path, tmp_path: Path) -> None:
    before = Recommender.load(bundle)
    done = add_items(
        AddItemsJob(bundle=str(bundle), items=str(_table(tmp_path / "i.parquet")), out=str(tmp_path / "b"))
    )
    after = Recommender.load(tmp_path / "b")
    assert (done.added, done.known, done.items) == (2, 1, len(before.items) + 2)
    assert after.items.ids()[: len(before.items)] == before.items.ids()
    assert after.items.ids()[-2:] == ["fresh-even", "fresh-odd"]
    assert after.id == done.bundle != before.id
    assert after.lineage["items_added_to"] == before.id
    assert after.attributes is not None and after.attributes.frame["category"].to_list()[-2:] == ["even", "odd"]
    assert "colour" not in after.attributes.columns
    request = Request(history=["item2", "item3"], k=len(after.items))
    scores = dict(zip(*[(a := after.answer([request])[0]).item_ids, a.scores], strict=True))
    assert {"fresh-even", "fresh-odd"} <= set(scores)
    (known,) = after.answer([Request(history=["fresh-even"], k=3)])
    assert known.item_ids and not known.degraded
    assert after.histories is not None and after.histories.get("user3") == before.histories.get("user3")  # type: ignore[union-attr]


def test_old_vectors_stay_and_a_new_one_is_that_of_an_item_without_events(
    bundle: Path, data: Dataset, tmp_path: Path
) -> None:
    """An item with a newcomer's attributes that training saw in nobody's history has the vector that is made later."""
    before = Recommender.load(bundle)
    if before.source.kind == "content":
        pytest.skip("how rare a word is counts in all of its vectors")
    counts_N = np.bincount(data.train().values, minlength=len(data.items))
    unseen = int(np.flatnonzero(counts_N == 0)[0])
    assert data.attributes is not None
    twin = data.attributes[unseen].with_columns(item_id=pl.lit("twin"))
    twin.write_parquet(tmp_path / "twin.parquet")
    add_items(AddItemsJob(bundle=str(bundle), items=str(tmp_path / "twin.parquet"), out=str(tmp_path / "b")))
    old_ND, new_ND = (one.source.index.items_ND for one in (before, Recommender.load(tmp_path / "b")))  # type: ignore[attr-defined]
    assert np.array_equal(new_ND[:-1], old_ND)
    np.testing.assert_allclose(new_ND[-1], old_ND[unseen], rtol=1e-4, atol=1e-6)


def test_content_has_the_vectors_of_a_fit_on_all(data: Dataset, tmp_path: Path) -> None:
    name, settings = GROWING["content"]
    MODELS[name](**settings).fit(data).save(tmp_path / "b")
    add_items(AddItemsJob(bundle=str(tmp_path / "b"), items=str(_table(tmp_path / "i.parquet"))))
    (found,) = Recommender.load(tmp_path / "b").answer([Request(history=["item2"], k=1)])
    assert found.item_ids == ["fresh-even"]  # the same title and category


def test_what_cannot_be_is_said(data: Dataset, tmp_path: Path) -> None:
    table = str(_table(tmp_path / "i.parquet"))
    for name in ("popular", "item-knn"):
        MODELS[name]().fit(data).save(tmp_path / name)
        with pytest.raises(InputError, match=f"{name} knows items by who had them.*content, text-encoder"):
            add_items(AddItemsJob(bundle=str(tmp_path / name), items=table))
    MODELS["content"](**GROWING["content"][1]).fit(data).save(tmp_path / "content")
    assert data.attributes is not None
    data.attributes.write_parquet(tmp_path / "old.parquet")
    with pytest.raises(InputError, match=f"has all of its {ITEMS + 2} items already"):
        add_items(AddItemsJob(bundle=str(tmp_path / "content"), items=str(tmp_path / "old.parquet")))
    pl.DataFrame({"name": ["x"]}).write_parquet(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="item_id"):
        add_items(AddItemsJob(bundle=str(tmp_path / "content"), items=str(tmp_path / "none.parquet")))


def test_another_language_model_is_refused(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MODELS["text-encoder"](**GROWING["mean"][1]).fit(data).save(tmp_path / "b")
    monkeypatch.setattr("leanrec.nn.text.newcomers.fingerprint", lambda folder: "other")
    with pytest.raises(InputError, match="not the language model that this recommender was trained with"):
        add_items(AddItemsJob(bundle=str(tmp_path / "b"), items=str(_table(tmp_path / "i.parquet"))))
