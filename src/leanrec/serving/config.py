"""Everything about serving that can be set, once."""

from __future__ import annotations

from leanrec.core.config import Config

__all__ = ["ServingConfig"]


class ServingConfig(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`leanrec serve --config FILE` reads these from TOML."""

    read_keys: tuple[str, ...] = ()
    """Keys that may ask. Without any key of any kind, whoever reaches the (loopback) address may ask and write."""
    write_keys: tuple[str, ...] = ()
    """Keys that may ask and write events."""
    admin_keys: tuple[str, ...] = ()
    """Keys that may do everything."""
    max_body_bytes: int = 1 << 20
    max_connections: int = 1024
    max_queue: int = 1024
    """Questions waiting or being answered; what comes on top is refused with 503 at once."""
    max_batch: int = 64
    """Questions answered together by the engine."""
    max_event_requests: int = 1024
    """Requests waiting for their events to become durable; what comes on top is refused with 503 at once."""
    deadline_seconds: float = 2.0
    """A question that has waited this long is refused with 503, or refused at once when it would."""
    body_seconds: float = 10.0
    """Time a client has for sending the body of a request."""
    idle_seconds: float = 30.0
    """Time a client has for sending headers, and a connection may be idle."""
    stop_seconds: float = 15.0
    """Time for requests under way after SIGTERM."""
    recent_events: int = 1000
    """Newest events of a user that count as history."""
    ignored_events: tuple[str, ...] = ("impression",)
    """Kinds of events that are no sign of interest: stored, but not taken as history."""
    cached_users: int = 10_000
    """Users whose history is kept in memory."""
