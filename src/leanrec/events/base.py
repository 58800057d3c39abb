"""The contracts of the event store (what happened, durable) and of the history store (what was trained on, by user)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Self

import msgspec

from leanrec.core.ids import Id

__all__ = ["Event", "EventStore", "HistoryStore"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a user did. `event_id` makes repeats harmless; timestamp in Unix seconds."""

    event_id: str
    user_id: Id
    item_id: Id
    event: str = "click"
    timestamp: float
    value: float | None = None


class EventStore(ABC):
    """Durable, append-only log of events with erasure by user; every method is safe from many threads."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str) -> Self:
        """The store a URL names, created when it is not there yet."""

    @abstractmethod
    def submit(self, events: Sequence[Event]) -> Future[tuple[int, int]]:
        """`append` without waiting. An event that cannot be stored at all is an InputError, raised here."""

    def append(self, events: Sequence[Event]) -> tuple[int, int]:
        """(accepted, duplicates), returned only after the accepted events are on disk; else StorageError."""
        return self.submit(events).result()

    @abstractmethod
    def of_user(self, user_id: Id, limit: int = 1000) -> list[Event]:
        """The user's last `limit` events, by rising time, then order of arrival."""

    @abstractmethod
    def scan(self) -> Iterator[Event]:
        """All events in order of arrival."""

    @abstractmethod
    def erase(self, user_id: Id) -> int:
        """Remove a user's events, without a trace on disk when it returns; how many there were."""

    @abstractmethod
    def close(self) -> None:
        """Flush and release; idempotent."""


class HistoryStore(ABC):
    """Histories of known users at the time of training, kept outside the bundle so that they can be erased."""

    @abstractmethod
    def get(self, user_id: Id) -> Sequence[Id] | None:
        """The user's item ids, oldest first; None for an unknown user. Text is taken as `parse` takes it."""

    @abstractmethod
    def parse(self, text: str) -> Id:
        """The user id that a piece of text (from JSON, a URL or the command line) stands for."""

    @abstractmethod
    def users(self) -> list[Id]:
        """Every known user."""
