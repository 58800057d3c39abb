"""Histories in a folder: what goes in comes out, users can be erased, damage is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanrec.core.errors import BundleError, InputError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.tensors import serialize
from leanrec.events.history import FolderHistory
from leanrec.events.memory import MemoryHistory, joined_histories

ITEMS = Vocabulary(["a", "b", "c"])


def small(folder: Path) -> FolderHistory:
    return FolderHistory.save(folder, Vocabulary(["u", "v", "w"]), ITEMS, Jagged.from_rows([[0, 1], [], [2, 2, 0]]))


def test_a_user_has_their_history_oldest_first(tmp_path: Path) -> None:
    history = small(tmp_path / "history")
    assert history.get("u") == ["a", "b"]
    assert history.get("v") == []
    assert history.get("w") == ["c", "c", "a"]
    assert history.get("x") is None
    assert history.users() == ["u", "v", "w"]


def test_text_stands_for_a_number_where_ids_are_numbers(tmp_path: Path) -> None:
    history = FolderHistory.save(
        tmp_path / "history", Vocabulary([5, 9]), Vocabulary([10, 20]), Jagged.from_rows([[1], [0, 1]])
    )
    assert history.get("9") == history.get(9) == [10, 20]
    assert history.get("nine") is None
    assert history.users() == [5, 9]


def test_an_erased_user_is_gone_from_disk(tmp_path: Path) -> None:
    history = small(tmp_path / "history")
    assert history.erase("w")
    assert not history.erase("w")
    assert not history.erase("nobody")
    for store in (history, FolderHistory(tmp_path / "history")):
        assert store.users() == ["u", "v"]
        assert store.get("w") is None
        assert store.get("u") == ["a", "b"]
    assert len(history.histories.values) == 2
    assert b"w" not in (tmp_path / "history" / "users.safetensors").read_bytes().partition(b"}}")[2]
    assert [path.name for path in tmp_path.iterdir()] == ["history"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=6))
def test_whatever_is_saved_is_read_back(tmp_path: Path, rows: list[list[int]]) -> None:
    users = Vocabulary([f"user {n}" for n in range(len(rows))])
    history = FolderHistory.save(tmp_path / "history", users, ITEMS, Jagged.from_rows(rows))
    assert [history.get(user) for user in history.users()] == [ITEMS.ids(row) for row in rows]


def test_in_memory_and_on_disk_know_the_same(tmp_path: Path) -> None:
    users = Vocabulary(["u", "v"]).without(["v"])
    arguments = (users, ITEMS, Jagged.from_rows([[0, 1], []]))
    for store in (MemoryHistory(*arguments), FolderHistory.save(tmp_path / "history", *arguments)):
        assert store.users() == ["u"]
        assert (store.get("u"), store.get("v")) == (["a", "b"], None)
        assert store.parse("u") == "u"


def test_no_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no histories"):
        FolderHistory(tmp_path / "history")


@pytest.mark.parametrize(
    "tensors",
    [
        {"items": np.zeros(2, np.int32)},
        {"items": np.zeros(2, np.int64), "offsets": np.array([0, 1, 2, 2])},
        {"items": np.zeros(2, np.int32), "offsets": np.array([0, 2])},
        {"items": np.zeros(2, np.int32), "offsets": np.array([0, 2, 1, 2])},
        {"items": np.zeros(2, np.int32), "offsets": np.array([0, 1, 2, 3])},
        {"items": np.array([0, 3], np.int32), "offsets": np.array([0, 1, 2, 2])},
        {"items": np.array([0, -1], np.int32), "offsets": np.array([0, 1, 2, 2])},
    ],
)
def test_damaged_histories_are_refused(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    small(tmp_path / "history")
    (tmp_path / "history" / "histories.safetensors").write_bytes(serialize(tensors))
    with pytest.raises(BundleError, match="damaged"):
        FolderHistory(tmp_path / "history")


def test_an_interrupted_replacement_is_undone(tmp_path: Path) -> None:
    small(tmp_path / "history")
    (tmp_path / "history").rename(tmp_path / ".history.old")
    assert FolderHistory(tmp_path / "history").get("u") == ["a", "b"]


def test_new_events_come_after_what_was_known_before(tmp_path: Path) -> None:
    users, items = Vocabulary(["w", "x"]), Vocabulary(["d", "a"])
    events = Jagged.from_rows([[0], [1, 0]])
    for before in (small(tmp_path / "history"), MemoryHistory(*_in_memory(small(tmp_path / "history")))):
        joined = joined_histories(before, users, items, events)
        assert joined.users() == ["u", "v", "w", "x"]
        assert [joined.get(user) for user in "uvwx"] == [["a", "b"], [], ["c", "c", "a", "d"], ["a", "d"]]
        assert joined.get("y") is None
    assert joined_histories(None, users, items, events).get("x") == ["a", "d"]


def _in_memory(history: FolderHistory) -> tuple[Vocabulary, Vocabulary, Jagged]:
    return history.user_vocabulary, history.item_vocabulary, history.histories
