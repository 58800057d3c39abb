"""What is known of a user right now: the history at the time of training, and the events since."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from leanrec.core.errors import StorageError
from leanrec.core.ids import Id, Vocabulary
from leanrec.events.base import EventStore, HistoryStore

__all__ = ["UserState", "parse_id"]


def parse_id(parse: Callable[[str], Id], text: str) -> Id:
    """The id that text from outside stands for; `042` and `4_2` are not other ways to write 42."""
    identity = parse(text)
    if isinstance(identity, str) or (str(identity) == text and -(2**63) <= identity < 2**63):
        return identity
    return text


class UserState:
    """Histories of users, of items the model knows, kept in memory for the users seen last.

    Belongs to one thread, which calls `history`; `touch` may be called from any.
    """

    def __init__(
        self,
        items: Vocabulary,
        histories: HistoryStore | None,
        events: EventStore,
        *,
        recent: int,
        ignored: Iterable[str],
        capacity: int,
        on_error: Callable[[], Any],
    ) -> None:
        self._items, self._histories, self._events = items, histories, events
        self._recent, self._ignored, self._capacity, self._on_error = recent, frozenset(ignored), capacity, on_error
        self._kept: OrderedDict[Id, Sequence[Id]] = OrderedDict()
        self._touched: deque[Id] = deque(maxlen=capacity)

    def parse(self, text: str) -> Id:
        """The user id that text stands for."""
        return text if self._histories is None else parse_id(self._histories.parse, text)

    def touch(self, users: Iterable[Id]) -> None:
        """New events of these users are durable: their next `history` has them."""
        self._touched.extend(users)

    def history(self, user_id: Id) -> Sequence[Id]:
        """Item ids, oldest first; empty when nothing is known of the user."""
        self._forget_touched()
        kept = self._kept.get(user_id)
        if kept is None:
            try:
                kept = [*self._trained(user_id), *self._since(user_id)]
            except StorageError:
                # An answer from the older part of the history is better than none.
                self._on_error()
                return self._trained(user_id)
            self._kept[user_id] = kept
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(user_id)
        return kept

    def _forget_touched(self) -> None:
        # Only this thread writes what is kept, so a history read before an event cannot be kept after it.
        if len(self._touched) == self._capacity:  # perhaps more than were noted: nothing kept is sure to be current
            self._kept.clear()
            self._touched.clear()
        while self._touched:
            self._kept.pop(self._touched.popleft(), None)

    def _trained(self, user_id: Id) -> Sequence[Id]:
        history = None if self._histories is None else self._histories.get(user_id)
        return [] if history is None else [item for item in history if self._items.row(item) >= 0]

    def _since(self, user_id: Id) -> list[Id]:
        events = self._events.of_user(user_id, self._recent)
        return [e.item_id for e in events if e.event not in self._ignored and self._items.row(e.item_id) >= 0]
