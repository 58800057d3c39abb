"""Histories of known users in memory: what a recommender that was just fitted knows, until it is saved."""

from __future__ import annotations

from collections.abc import Sequence

from leanrec.core.ids import Id, Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.events.base import HistoryStore

__all__ = ["MemoryHistory", "joined_histories"]


class MemoryHistory(HistoryStore):
    """Row i of `histories` (item rows, oldest first) is the history of row i of `user_vocabulary`."""

    def __init__(self, users: Vocabulary, items: Vocabulary, histories: Jagged) -> None:
        assert len(users) == len(histories), "one history per user"
        self.user_vocabulary, self.item_vocabulary, self.histories = users, items, histories

    def get(self, user_id: Id) -> Sequence[Id] | None:
        row = self.user_vocabulary.row(self.parse(user_id) if isinstance(user_id, str) else user_id)
        return None if row < 0 else self.item_vocabulary.ids(self.histories[row])

    def parse(self, text: str) -> Id:
        return self.user_vocabulary.parse(text)

    def users(self) -> list[Id]:
        erased = self.user_vocabulary.erased
        return [identity for identity, gone in zip(self.user_vocabulary.ids(), erased, strict=True) if not gone]


def joined_histories(
    before: HistoryStore | None, users: Vocabulary, items: Vocabulary, histories: Jagged
) -> MemoryHistory:
    """What was known before of each user, then the events of `histories` (rows of `users` and of `items`)."""
    known = [] if before is None else before.users()
    lists = [(before.get(user) if before is not None else None) or () for user in known]
    all_items = Vocabulary(list(dict.fromkeys(i for one in lists for i in one))).extended(items.ids())
    all_users = Vocabulary(known).extended(users.ids())
    old = Jagged.from_rows([all_items.rows(one) for one in lists])
    moved = Jagged(all_items.rows(items.ids())[histories.values], histories.offsets)
    return MemoryHistory(all_users, all_items, old.appended(moved, all_users.rows(users.ids())))
