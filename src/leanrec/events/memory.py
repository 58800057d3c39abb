"""Histories of known users in memory: what a recommender that was just fitted knows, until it is saved."""

from __future__ import annotations

from collections.abc import Sequence

from leanrec.core.ids import Id, Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.events.base import HistoryStore

__all__ = ["MemoryHistory"]


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
