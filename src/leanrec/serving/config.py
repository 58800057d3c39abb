"""Everything about serving that can be set, once."""

from __future__ import annotations

from leanrec.core.config import Config, build, to_dict
from leanrec.runtime.answering import Answering

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
    max_batch: int | None = None
    """Questions answered together by the engine. What is not given of this and the next three is as the bundle
    recommends, or as `Answering` says."""
    threads: int | None = None
    """Of a scan of the catalogue; 0: one for each core."""
    pinned: bool | None = None
    """Whether the engine thread stays on the last of the process's cores."""
    kept_answers: int | None = None
    """Answers kept for whoever asks exactly the same."""
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

    def answering(self, recommended: Answering | None) -> Answering:
        """How to answer: what is given here, else what the bundle recommends; a ConfigError where that cannot be."""
        values = to_dict(recommended or Answering())
        given = {name: value for name in values if (value := getattr(self, name)) is not None}
        return build(Answering, values | given, where="serving")
