"""Content against scikit-learn's TF-IDF and dense cosines; missing attributes, new items, and what is refused."""

from __future__ import annotations

import datetime
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries, Request
from leanrec.data.prepare import prepare
from leanrec.kernels.profiles import cosines_reference
from leanrec.models.attribute_vectors import Block, blocks_of, combined
from leanrec.models.content import Content
from leanrec.runtime.sources.content import ContentSource

from .contract import ModelContract
from .worlds import shop


class TestContent(ModelContract):
    model = "content"

    def test_unseen_item_in_training(self, data, fitted):
        """More than the contract: what nobody had in training is recommended."""
        super().test_unseen_item_in_training(data, fitted)
        unseen = np.setdiff1d(np.arange(len(data.items)), data.train().values)
        hits, _ = fitted.rank(self.histories(data), len(data.items))
        assert np.isin(hits.items_BK, unseen).any()


class TestContentWithSettings(ModelContract):
    model = "content"
    settings: ClassVar = {"columns": {"category": 2.0, "title": 1.0}, "half_life": 3, "window": 4}


def dense(block: Block) -> np.ndarray:
    vectors_NF = np.zeros((len(block.terms), block.num_terms))
    vectors_NF[block.terms.row_of(), block.terms.values] = block.values
    return vectors_NF


def test_words_are_weighted_as_scikit_learn_does():
    texts = ["Red METAL sign", "red red box a", "blue-box, 12 pieces", "metal box", "Ärger im Büro", None, "  "]
    block = blocks_of(pl.DataFrame({"item_id": range(7), "title": texts}))[0]
    known = [text for text in texts if text and text.strip()]
    expected = TfidfVectorizer().fit_transform(known)
    found_NN = dense(block) @ dense(block).T
    np.testing.assert_allclose(found_NN[:5, :5], (expected @ expected.T).toarray(), atol=1e-12)
    assert not found_NN[5:].any()


def test_every_kind_of_column_says_how_near_items_are():
    frame = pl.DataFrame(
        {
            "item_id": [1, 2, 3, 4],
            "brand": ["OPI", "opi ", "Essie", None],
            "genres": [["a", "b"], ["a"], ["c"], []],
            "price": [1.0, 1.5, float("nan"), 100.0],
            "when": [datetime.date(2020, 1, day) for day in (1, 2, 20, 31)],
            "live": [True, False, True, None],
            "shop_id": [7, 8, 7, 9],
            "empty": [None, None, None, None],
        }
    )
    found = {block.column: dense(block) @ dense(block).T for block in blocks_of(frame)}
    assert [*found] == ["brand", "genres", "price", "when", "live", "shop_id"]
    for near_NN in found.values():
        diagonal_N = np.diag(near_NN)
        assert np.all((np.abs(diagonal_N - 1) < 1e-12) | (diagonal_N == 0))
    np.testing.assert_allclose(found["brand"][0], [1, 1, 0, 0])
    assert found["genres"][0, 1] > 0 == found["genres"][0, 2] and not found["genres"][3].any()
    assert found["price"][0, 1] > found["price"][0, 3] and not found["price"][2].any()
    assert found["when"][0, 1] > found["when"][0, 2]
    np.testing.assert_allclose(found["live"][0], [1, 0, 1, 0])
    np.testing.assert_allclose(found["shop_id"][0], [1, 0, 1, 0])


def test_columns_count_by_weight():
    frame = pl.DataFrame({"item_id": [1, 2], "one": ["x", "x"], "two": ["y", "z"]})
    terms, values, num_terms = combined(blocks_of(frame), {"one": 3.0, "two": 1.0})
    vectors_NF = np.zeros((2, num_terms))
    vectors_NF[terms.row_of(), terms.values] = values
    np.testing.assert_allclose(vectors_NF @ vectors_NF.T, [[1, 0.75], [0.75, 1]], rtol=1e-6)


@st.composite
def worlds(draw):
    items, terms = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    raw_NF = np.array(draw(st.lists(st.lists(st.integers(0, 3), min_size=terms, max_size=terms), min_size=items,
                                    max_size=items)), float)  # fmt: skip
    length_N = np.linalg.norm(raw_NF, axis=1, keepdims=True)
    vectors_NF = np.divide(raw_NF, length_N, out=np.zeros_like(raw_NF), where=length_N > 0).astype(np.float32)
    histories = draw(st.lists(st.lists(st.integers(0, items - 1), max_size=6), min_size=1, max_size=4))
    return vectors_NF, Jagged.from_rows(histories), draw(st.sampled_from([2, 100])), draw(st.sampled_from([None, 1.5]))


@given(worlds(), st.integers(1, 10), st.booleans())
@settings(max_examples=150, deadline=None)
def test_answers_equal_dense_cosines(world, k, excluding):
    vectors_NF, histories, window, half_life = world
    size = len(vectors_NF)
    rows, terms = np.nonzero(vectors_NF)
    jagged = Jagged.from_lengths(terms.astype(np.int32), np.bincount(rows, minlength=size))
    source = ContentSource(
        "content", jagged, vectors_NF[rows, terms], vectors_NF.shape[1], window=window, half_life=half_life
    )
    weights_L = np.ones(window) if half_life is None else 0.5 ** (np.arange(window) / half_life)
    every = Jagged.from_rows([range(size)] * len(histories))
    for _ in range(2):
        scores_BN = source.score(Queries(histories, 1), every).reshape(len(histories), size)
        hits = source.search(Queries(histories, k, histories if excluding else None))
    for row, history in enumerate(histories):
        expected_N = cosines_reference(history, weights_L, vectors_NF.astype(float))
        np.testing.assert_allclose(scores_BN[row], expected_N, atol=1e-6)
        open_N = scores_BN[row] > 0
        if excluding:
            open_N[history] = False
        best = [item for item in np.lexsort((np.arange(size), -scores_BN[row])) if open_N[item]][:k]
        assert hits.items_BK[row].tolist() == best + [-1] * (k - len(best))


def books(**columns) -> pl.DataFrame:
    return pl.DataFrame({"item_id": ["a", "b", "c", "d"], **columns})


def reading(items: pl.DataFrame | None):
    events = pl.DataFrame(
        {
            "user_id": ["u", "u", "v", "v", "w"],
            "item_id": ["a", "b", "a", "d", "c"],
            "split": ["train", "train", "train", "train", "test"],
        }
    )
    return prepare(events, items=items, split="column:split", repeats=False)


def test_items_that_nobody_had_are_recommended_and_items_without_attributes_are_not():
    data = reading(books(title=["red metal sign", "blue paper bag", "red metal box", None]))
    recommender = Content().fit(data)
    assert "c" not in data.items.ids(data.train().values)
    assert recommender.answer([Request(history=["a"], k=4)])[0].item_ids == ["c"]
    unknown = recommender.answer([Request(history=["d"], k=4)])[0]
    assert unknown.degraded and unknown.item_ids


def test_without_attributes_there_is_one_sentence():
    for items in (None, books(nothing=[None] * 4)):
        with pytest.raises(ConfigError, match=r"content needs attributes of items, .* prepare its data with --items"):
            Content().fit(reading(items))


def test_unknown_column_names_the_nearest():
    data = reading(books(title=["red metal sign", "blue paper bag", "red metal box", None]))
    with pytest.raises(ConfigError, match=r"no attribute 'titel' \(did you mean 'title'\?\); there are: title"):
        Content(columns={"titel": 1.0}).fit(data)


def test_columns_are_chosen_on_validation_and_said(capsys):
    card = Content().fit(shop()).card["config"]
    assert set(card["columns"]) == {"title", "category"} and max(card["columns"].values()) > 0
    assert "content (defaults 1): columns title=" in capsys.readouterr().err


def test_new_items_are_added_without_events_of_their_own():
    old = Content(columns={"title": 1.0}, half_life=0).fit(
        reading(books(title=["red metal sign", "blue paper bag", "red metal box", None]))
    )
    later = pl.DataFrame({"user_id": ["x", "x"], "item_id": ["e", "f"], "split": ["train", "test"]})
    more = pl.DataFrame({"item_id": ["e", "f"], "title": ["red metal tin", "green paper bag"]})
    new = Content(columns={"title": 1.0}, half_life=0).partial_fit(
        old, prepare(later, items=more, split="column:split")
    )
    assert set(new.answer([Request(history=["a"], k=9)])[0].item_ids) == {"c", "e"}
    assert set(new.answer([Request(history=["f"], k=9)])[0].item_ids) == {"b"}


@pytest.mark.parametrize("settings", [{"columns": {"title": -1}}, {"half_life": -1}, {"window": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Content(**settings)


def broken():
    def arrays(**changed):
        good = {
            "offsets": np.array([0, 1, 2], np.int64), "terms": np.array([1, 0], np.int32),
            "values": np.ones(2, np.float32),
        }  # fmt: skip
        return {"content": {**good, **changed}}

    config = {"num_terms": 2, "window": 10, "half_life": None}
    yield config, {}
    yield {}, arrays()
    yield {**config, "window": 0}, arrays()
    yield {**config, "half_life": 0}, arrays()
    yield {**config, "num_terms": -1}, arrays()
    yield {**config, "num_terms": 1}, arrays()
    yield config, arrays(terms=np.array([1, 0], np.int64))
    yield config, arrays(offsets=np.array([0, 3, 2], np.int64))
    yield config, arrays(values=np.ones(1, np.float32))
    yield config, arrays(values=np.array([1, np.nan], np.float32))


@pytest.mark.parametrize(("config", "parts"), list(broken()))
def test_bundles_that_point_outside_are_refused(config, parts):
    with pytest.raises(BundleError, match="'content' is broken"):
        ContentSource.load("content", config, parts)
