"""What is known of a user: what was trained on, then the events since."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leanrec.core.errors import StorageError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.events.base import Event
from leanrec.events.memory import MemoryHistory
from leanrec.events.sqlite import SqliteStore
from leanrec.serving.state import UserState, parse_id

ITEMS = Vocabulary(["a", "b", "c", "d"])


def event(number: int, user: str, item: str, kind: str = "click") -> Event:
    return Event(event_id=f"e{number}", user_id=user, item_id=item, event=kind, timestamp=float(number))


@pytest.fixture
def make(store: SqliteStore) -> Callable[..., UserState]:
    def build(**options: object) -> UserState:
        histories = MemoryHistory(
            Vocabulary(["u", "v"]), Vocabulary(["a", "b", "old"]), Jagged.from_rows([[0, 2], [1]])
        )
        values = {"recent": 3, "ignored": ("impression",), "capacity": 2, "on_error": lambda: None, **options}
        return UserState(ITEMS, histories, store, **values)  # type: ignore[arg-type]

    return build


def test_events_come_after_what_was_trained_on(make: Callable[..., UserState], store: SqliteStore) -> None:
    state = make()
    assert state.history("u") == ["a"]  # "old" is no item of this model any more
    assert state.history("nobody") == []
    store.append([event(2, "u", "d"), event(1, "u", "c"), event(3, "u", "new"), event(4, "w", "b")])
    assert state.history("u") == ["a"]  # not told yet
    state.touch(["u", "w"])
    assert state.history("u") == ["a", "c", "d"]
    assert state.history("w") == ["b"]


def test_only_the_newest_events_and_signs_of_interest_count(make: Callable[..., UserState], store: SqliteStore) -> None:
    store.append([event(n, "v", "abcd"[n % 4]) for n in range(6)] + [event(6, "v", "d", "impression")])
    assert make().history("v") == ["b", "a", "b"]


def test_memory_is_bounded(make: Callable[..., UserState]) -> None:
    state = make(capacity=2)
    for user in ("u", "v", "u", "w"):
        state.history(user)
    assert list(state._kept) == ["u", "w"]


def test_more_touched_users_than_are_noted(make: Callable[..., UserState], store: SqliteStore) -> None:
    state = make(capacity=2)
    assert state.history("u") == ["a"]
    store.append([event(1, "u", "c")])
    state.touch(["u", *(f"other{n}" for n in range(50))])
    assert state.history("u") == ["a", "c"]


def test_a_broken_store_leaves_what_was_trained_on(
    make: Callable[..., UserState], store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[int] = []
    state = make(on_error=lambda: errors.append(1))

    def fail(user_id: object, limit: int) -> list[Event]:
        raise StorageError("damaged")

    store.append([event(1, "u", "c")])
    with monkeypatch.context() as patched:
        patched.setattr(store, "of_user", fail)
        assert state.history("u") == ["a"]
    assert errors == [1]
    assert state.history("u") == ["a", "c"]  # the poorer answer was not kept


def test_without_histories_users_are_text(store: SqliteStore) -> None:
    state = UserState(ITEMS, None, store, recent=1, ignored=(), capacity=1, on_error=lambda: None)
    assert state.parse("5") == "5"
    assert state.history("5") == []


def test_one_id_has_one_spelling() -> None:
    numbers = Vocabulary([42])
    assert parse_id(numbers.parse, "42") == 42
    for text in ("042", "4_2", "+42", " 42", str(2**63), "x"):
        assert parse_id(numbers.parse, text) == text
    assert parse_id(ITEMS.parse, "42") == "42"
