"""What every event store promises; a store's test class inherits it and says how to open one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanrec.core.errors import InputError, LeanrecError
from leanrec.events import Event, EventStore


def event(number: int, user: int | str = "u", item: int | str = "i", **fields: object) -> Event:
    values = {"event_id": f"e{number}", "user_id": user, "item_id": item, "timestamp": float(number), **fields}
    return Event(**values)  # type: ignore[arg-type]


class EventStoreContract:
    def open(self, folder: Path) -> EventStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[EventStore]:
        store = self.open(tmp_path)
        yield store
        store.close()

    def test_events_come_back_as_they_went_in(self, store: EventStore) -> None:
        events = [
            event(0, "uéλ", "i\x00\n"),
            event(1, 7, -3, event="buy", value=2.5),
            event(2, 2**63 - 1, -(2**63), timestamp=-1.5, value=0.0),
        ]
        assert store.append(events) == (3, 0)
        assert list(store.scan()) == events

    def test_repeated_event_ids_are_stored_once(self, store: EventStore) -> None:
        assert store.append([event(0), event(0, item="other"), event(1)]) == (2, 1)
        assert store.append([event(1), event(2)]) == (1, 1)
        assert [e.item_id for e in store.scan()] == ["i", "i", "i"]

    def test_nothing_is_an_answer_too(self, store: EventStore) -> None:
        assert store.append([]) == (0, 0)
        assert list(store.scan()) == []
        assert store.of_user("nobody") == []
        assert store.erase("nobody") == 0

    def test_a_user_has_their_last_events_by_time_then_arrival(self, store: EventStore) -> None:
        store.append([event(n, timestamp=t) for n, t in enumerate([3.0, 1.0, 2.0, 2.0, 9.0])])
        store.append([event(100, user="someone else")])
        assert [e.event_id for e in store.of_user("u")] == ["e1", "e2", "e3", "e0", "e4"]
        assert [e.event_id for e in store.of_user("u", limit=2)] == ["e0", "e4"]

    def test_text_and_number_are_different_users(self, store: EventStore) -> None:
        store.append([event(0, user=1), event(1, user="1")])
        assert [e.event_id for e in store.of_user(1)] == ["e0"]
        assert [e.event_id for e in store.of_user("1")] == ["e1"]

    def test_a_long_log_is_scanned_in_order_of_arrival(self, store: EventStore) -> None:
        store.append([event(n, timestamp=-float(n)) for n in range(2500)])
        assert [e.event_id for e in store.scan()] == [f"e{n}" for n in range(2500)]

    def test_closing_keeps_everything_and_is_idempotent(self, store: EventStore, tmp_path: Path) -> None:
        store.append([event(0)])
        store.close()
        store.close()
        with pytest.raises(LeanrecError, match="closed"):
            store.append([event(1)])
        again = self.open(tmp_path)
        assert list(again.scan()) == [event(0)]
        again.close()

    def test_an_erased_user_leaves_no_trace_on_disk(self, store: EventStore, tmp_path: Path) -> None:
        # Enough rows to split pages: freed gaps must not keep copies either.
        for block in range(20):
            rows = range(block * 200, block * 200 + 200)
            store.append([event(n, user=f"person-{n * 7919 % 40:02d}") for n in rows])
        kept = [e for e in store.scan() if e.user_id != "person-03"]
        assert store.erase("person-03") == 4000 - len(kept)
        for file in tmp_path.iterdir():
            assert b"person-03" not in file.read_bytes(), file
        assert list(store.scan()) == kept
        assert store.of_user("person-03") == []

    @pytest.mark.parametrize(
        "bad",
        [
            {"event_id": 5},
            {"user_id": 2**63},
            {"item_id": -(2**63) - 1},
            {"timestamp": float("nan")},
            {"value": float("inf")},
            {"user_id": "\ud800"},
            {"event": "\ud800"},
        ],
    )
    def test_what_cannot_be_stored_is_refused_alone(self, store: EventStore, bad: dict[str, object]) -> None:
        with pytest.raises(InputError):
            store.append([event(0), event(1, **bad)])
        assert store.append([event(2)]) == (1, 0)
        assert list(store.scan()) == [event(2)]

    def test_many_threads_lose_and_double_nothing(self, store: EventStore) -> None:
        totals: list[tuple[int, int]] = []

        def client(number: int) -> None:
            for step in range(25):
                shared, own = event(step), event(1000 * (number + 1) + step)
                totals.append(store.append([shared, own]))

        threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(accepted for accepted, _ in totals) == 25 + 8 * 25
        assert sum(duplicates for _, duplicates in totals) == 7 * 25
        ids = [e.event_id for e in store.scan()]
        assert len(ids) == len(set(ids)) == 225

    def test_a_cancelled_append_does_not_harm_others(self, store: EventStore) -> None:
        futures = [store.submit([event(n)]) for n in range(50)]
        cancelled = {n for n, future in enumerate(futures) if future.cancel()}
        done = [future.result() for n, future in enumerate(futures) if n not in cancelled]
        assert done == [(1, 0)] * (50 - len(cancelled))
        assert {e.event_id for e in store.scan()} == {f"e{n}" for n in range(50) if n not in cancelled}
