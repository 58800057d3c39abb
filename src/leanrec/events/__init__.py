"""The event store and the histories of users: contracts in `base`, one file per way, opened by URL."""

from leanrec.core.errors import ConfigError
from leanrec.core.registry import Entry, Registry
from leanrec.events.base import Event, EventStore, HistoryStore

__all__ = ["STORES", "Event", "EventStore", "HistoryStore", "open_store"]

STORES: Registry[EventStore] = Registry(
    "event store",
    {"sqlite": Entry("leanrec.events.sqlite:SqliteStore", "one file, write-ahead log, group commit")},
)


def open_store(url: str) -> EventStore:
    """The event store a URL names: `sqlite:///events.sqlite` (relative) or `sqlite:////var/lib/events.sqlite`."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigError(f"{url!r} is no store URL: write it like sqlite:///events.sqlite")
    return STORES[scheme].from_url(url)
