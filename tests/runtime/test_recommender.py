"""Requests to rankings: ids, histories, exclusions, fallback, batches, and what is saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanrec.core.errors import BundleError, InputError
from leanrec.core.ids import Id, Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Ranking, Request
from leanrec.runtime.recommender import Recommender, UnknownItem

from .toys import DictHistory, FixedSource, item_table, recommender

USERS = DictHistory({"u1": ["i3", "i4"], "u2": ["i9"], "new": [], "old": ["i9", "gone"]})
INDEXES = pytest.mark.parametrize("index", ["exact", "certified-int8"])


def oracle(history: Sequence[int], k: int, exclude: Sequence[int] = (), *, size: int = 50) -> list[str]:
    table = item_table(size).astype(np.float64)
    query = table[list(history)].mean(axis=0).astype(np.float32).astype(np.float64)
    scores = (table @ query).astype(np.float32)
    return [f"i{n}" for n in np.lexsort((np.arange(size), -scores)) if n not in set(exclude)][:k]


@INDEXES
def test_answers_are_the_best_items_not_seen_yet(index: str) -> None:
    model = recommender(index=index, histories=USERS)
    known, bare = model.answer([Request(user_id="u1", k=5), Request(history=["i3", "i4"], k=5)])
    assert known == bare
    assert known.item_ids == oracle([3, 4], 5, [3, 4])
    assert known.sources == ["toy"] * 5
    assert not known.degraded
    assert known.scores == sorted(known.scores, reverse=True)


def test_a_bare_history_wins_over_a_user() -> None:
    model = recommender(histories=USERS)
    both = model.answer([Request(user_id="u2", history=["i3", "i4"], k=3)])[0]
    assert both.item_ids == oracle([3, 4], 3, [3, 4])


def test_seen_items_as_the_protocol_says_unless_asked_otherwise() -> None:
    for repeats in (True, False):
        model = recommender(repeats=repeats, histories=USERS)
        for include, exclude in ((None, [] if repeats else [3, 4]), (True, []), (False, [3, 4])):
            ranking = model.answer([Request(user_id="u1", k=6, include_seen=include)])[0]
            assert ranking.item_ids == oracle([3, 4], 6, exclude)


def test_excluded_items_are_never_answered_and_unknown_ones_do_not_matter() -> None:
    best = oracle([3, 4], 3, [3, 4])
    ranking = recommender().answer([Request(history=["i3", "i4"], exclude=[best[0], "never heard of"], k=2)])[0]
    assert ranking.item_ids == best[1:]


@pytest.mark.parametrize("user", ["nobody", "new", None, 17])
def test_where_nothing_is_known_the_fallback_answers_degraded(user: Id | None) -> None:
    ranking = recommender(histories=USERS).answer([Request(user_id=user, k=3)])[0]
    assert ranking == Ranking(["i0", "i1", "i2"], [0, -1, -2], ["fixed"] * 3, True)
    ranking = recommender(histories=USERS).answer([Request(user_id=user, k=2, exclude=["i0"])])[0]
    assert ranking.item_ids == ["i1", "i2"]


def test_without_a_fallback_an_unknown_user_gets_nothing() -> None:
    ranking = recommender(fallback=None).answer([Request(history=[], k=3)])[0]
    assert ranking == Ranking([], [], [], True)


def test_items_that_left_the_catalogue_are_forgotten_in_stored_histories() -> None:
    assert recommender(histories=USERS).answer([Request(user_id="old", k=3)])[0].item_ids == oracle([9], 3, [9])


def test_an_unknown_item_in_a_bare_history_is_named() -> None:
    with pytest.raises(UnknownItem, match="item 'gone' is not in the catalogue") as caught:
        recommender().answer([Request(history=["i1", "gone"])])
    assert caught.value.item == "gone"
    assert isinstance(caught.value, InputError)


def test_more_answers_than_items() -> None:
    model = recommender(10)
    ranking = model.answer([Request(history=["i1"], k=1_000_000_000)])[0]
    assert len(ranking.item_ids) == 9
    assert "i1" not in ranking.item_ids
    hits, _ = model.rank(Jagged.from_rows([[1]]), 12)
    assert hits.items_BK.shape == (1, 12)
    assert hits.items_BK[0, 9:].tolist() == [-1] * 3


def test_no_answers_is_no_wish() -> None:
    for k in (0, -1):
        with pytest.raises(InputError, match="at least 1"):
            recommender().answer([Request(history=["i1"], k=k)])


@INDEXES
def test_batches_equal_singles_in_any_mix(index: str) -> None:
    """Battery row 11: every request of a mixed batch is answered as it is alone."""
    model = recommender(300, index=index, histories=USERS)
    rng = np.random.default_rng(0)
    requests = [
        Request(
            user_id=str(rng.choice(["u1", "u2", "nobody"])) if rng.random() < 0.3 else None,
            history=[f"i{n}" for n in rng.integers(0, 300, rng.integers(0, 9))] if rng.random() < 0.8 else None,
            k=int(rng.choice([1, 5, 400])),
            exclude=[f"i{n}" for n in rng.integers(0, 300, rng.integers(0, 4))],
            include_seen=[None, True, False][int(rng.integers(0, 3))],
        )
        for _ in range(300)
    ]
    together = model.answer(requests)
    assert together == [model.answer([request])[0] for request in requests]
    assert model.answer([]) == []


def test_rank_in_blocks_equals_rank_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = recommender()
    rng = np.random.default_rng(0)
    histories = Jagged.from_rows([rng.integers(0, 50, rng.integers(0, 6)) for _ in range(100)])
    exclude = Jagged.from_rows([rng.integers(0, 50, 3) for _ in range(100)])
    allowed_N = rng.random(50) < 0.5
    whole, degraded_B = model.rank(histories, 7, exclude=exclude, allowed_N=allowed_N)
    monkeypatch.setattr("leanrec.runtime.recommender._BATCH", 9)
    parts, degraded_too_B = model.rank(histories, 7, exclude=exclude, allowed_N=allowed_N)
    np.testing.assert_array_equal(whole.items_BK, parts.items_BK)
    np.testing.assert_array_equal(degraded_B, degraded_too_B)
    np.testing.assert_array_equal(degraded_B, histories.lengths == 0)
    for row, items_K in enumerate(whole.items_BK):
        found = items_K[items_K >= 0]
        assert allowed_N[found].all()
        assert not set(found.tolist()) & {*exclude[row].tolist(), *histories[row].tolist()}


def test_where_the_source_finds_nothing_the_fallback_is_asked() -> None:
    model = recommender(4)
    model.fallback = FixedSource("fixed", 4)
    hits, degraded_B = model.rank(Jagged.from_rows([[0], [1]]), 2, allowed_N=np.array([True, False, False, False]))
    assert hits.items_BK.tolist() == [[-1, -1], [0, -1]]
    assert degraded_B.tolist() == [False, False]


@INDEXES
def test_numbering_items_otherwise_changes_nothing(index: str) -> None:
    """Battery row 11: answers follow the ids when rows are permuted."""
    plain = recommender(index=index)
    order = np.random.default_rng(0).permutation(50)
    moved = recommender(index=index)
    moved.items = Vocabulary([f"i{n}" for n in order])
    table = item_table()[order]
    moved.source = type(plain.source)("toy", type(plain.source.engine)(table), type(plain.source.index).build(table))
    for history in (["i3"], ["i3", "i4", "i17"]):
        one, other = (m.answer([Request(history=history, k=20)])[0] for m in (plain, moved))
        assert one == other


def test_erased_items_are_never_answered() -> None:
    model = recommender()
    best = oracle([3], 5, [3])
    model.items = model.items.without(best[:2])
    assert model.answer([Request(history=["i3"], k=3)])[0].item_ids == best[2:]
    near = recommender().similar("i3", 3)
    model = recommender()
    model.items = model.items.without(near.item_ids[:1])
    assert model.similar("i3", 2).item_ids == near.item_ids[1:]
    with pytest.raises(UnknownItem):
        model.similar(near.item_ids[0], 2)


def test_similar_items_by_cosine() -> None:
    table = item_table().astype(np.float64)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    cosine = unit @ unit[3]
    cosine[3] = -np.inf
    expected = [f"i{n}" for n in np.argsort(-cosine)[:5]]
    ranking = recommender(index="certified-int8").similar("i3", 5)
    assert ranking.item_ids == expected
    assert ranking.scores == pytest.approx(np.sort(-cosine)[:5] * -1, rel=1e-5)
    assert len(recommender(4).similar("i3", 100).item_ids) == 3


@INDEXES
def test_scores_are_those_of_the_answer(index: str) -> None:
    model = recommender(index=index, histories=USERS)
    ranking = model.answer([Request(user_id="u1", k=5)])[0]
    asked = [Request(user_id="u1"), Request(history=[])]
    scored = model.score(asked, [ranking.item_ids, ["i7", "i2"]])
    assert scored == [ranking.scores, [-7.0, -2.0]]
    with pytest.raises(UnknownItem):
        model.score(asked[:1], [["gone"]])
    assert recommender(fallback=None).score([Request(history=[])], [["i1"]]) == [[-np.inf]]


class Attributes:
    """Colours by row, as `ItemAttributes` answers."""

    def allowed(self, wanted: Any) -> Any:
        return np.array(["red" if n % 2 else "blue" for n in range(50)]) == wanted["colour"][0]


def test_filters() -> None:
    model = recommender(attributes=Attributes())
    ranking = model.answer([Request(history=["i3"], k=5, filter={"colour": ["red"]}), Request(history=["i3"], k=5)])
    assert ranking[0].item_ids == oracle([3], 5, [3, *range(0, 50, 2)])
    assert ranking[1].item_ids == oracle([3], 5, [3])
    with pytest.raises(InputError, match="no item attributes"):
        recommender().answer([Request(history=["i3"], filter={"colour": ["red"]})])


@INDEXES
@pytest.mark.parametrize("text_ids", [True, False])
def test_saved_and_loaded_answers_the_same(tmp_path: Path, index: str, text_ids: bool) -> None:
    ids = [f"i{n}" if text_ids else 100 + n for n in range(50)]
    histories = DictHistory({"u1": [ids[3], ids[4]], "u2": []})
    model = recommender(index=index, text_ids=text_ids, histories=histories, card={"a": 1}, lineage={"b": [2]})
    assert model.save(tmp_path / "b") == model.id
    loaded = Recommender.load(tmp_path / "b")
    assert loaded.id == model.id
    assert (loaded.card, loaded.lineage, loaded.certificate) == ({"a": 1}, {"b": [2]}, None)
    requests = [Request(user_id="u1", k=9), Request(user_id="u2"), Request(history=ids[5:9])]
    assert loaded.answer(requests) == model.answer(requests)
    assert loaded.similar(ids[3], 4) == model.similar(ids[3], 4)
    assert sorted(loaded._store().users()) == ["u1", "u2"]
    loaded.save(tmp_path / "b")
    assert Recommender.load(tmp_path / "b").answer(requests) == model.answer(requests)


def test_a_bundle_without_histories_answers_bare_ones(tmp_path: Path) -> None:
    recommender().save(tmp_path / "run" / "bundle")
    loaded = Recommender.load(tmp_path / "run")
    assert loaded.histories is None
    assert loaded.answer([Request(user_id="u1")])[0].degraded
    with pytest.raises(InputError, match="no histories of known users"):
        loaded.recommend()


def test_attributes_travel_in_the_bundle(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    from leanrec.features.items import ItemAttributes

    def attributes(rows: int) -> ItemAttributes:
        colours = ["red" if n % 2 else "blue" for n in range(rows)]
        return ItemAttributes.from_frame(pl.DataFrame({"item_id": [f"i{n}" for n in range(rows)], "colour": colours}))

    model = recommender(attributes=attributes(50))
    model.save(tmp_path / "b")
    loaded = Recommender.load(tmp_path / "b")
    request = [Request(history=["i3"], k=5, filter={"colour": ["blue"]})]
    assert loaded.answer(request) == model.answer(request)
    recommender(attributes=attributes(49)).save(tmp_path / "c")
    with pytest.raises(BundleError, match="49 rows for 50 items"):
        Recommender.load(tmp_path / "c").answer(request)
