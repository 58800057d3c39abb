"""An event as a row of plain values with a checksum: what a store writes, and believes when it reads it back."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from leanrec.core.errors import InputError
from leanrec.core.ids import Id
from leanrec.events.base import Event

__all__ = ["Row", "from_row", "stored_id", "to_row"]

Row = tuple[str, Id, Id, str, float, float | None, int]
"""event_id, user_id, item_id, event, timestamp, value, CRC-32 of all these."""

_encoder = msgspec.msgpack.Encoder()


def to_row(event: Event) -> Row:
    """The row of an event; an InputError when no store could hold it."""
    if not isinstance(event.event_id, str):
        raise InputError(f"event_id {event.event_id!r} must be text")
    event_id, user_id, item_id = event.event_id, stored_id(event.user_id), stored_id(event.item_id)
    # Adding 0.0 makes -0.0 the 0.0 that SQLite will give back.
    timestamp, value = event.timestamp + 0.0, None if event.value is None else event.value + 0.0
    if not math.isfinite(timestamp) or not math.isfinite(value or 0.0):
        raise InputError(f"event {event_id!r}: timestamp and value must be finite numbers")
    try:
        crc = _crc((event_id, user_id, item_id, event.event, timestamp, value))
    except UnicodeEncodeError as error:
        raise InputError(f"event {event_id!r} holds text that is not valid Unicode") from error
    return event_id, user_id, item_id, event.event, timestamp, value, crc


def from_row(row: Sequence[Any]) -> Event | None:
    """The event of a row; None when its checksum does not fit."""
    *content, crc = row
    if _crc(content) != crc:
        return None
    event_id, user_id, item_id, event, timestamp, value = content
    return Event(event_id=event_id, user_id=user_id, item_id=item_id, event=event, timestamp=timestamp, value=value)


def stored_id(identity: Id) -> Id:
    """The id itself; an InputError when it is a number beyond 64 bits."""
    if isinstance(identity, int) and not -(2**63) <= identity < 2**63:
        raise InputError(f"the id {identity} does not fit 64 bits")
    return identity


def _crc(content: Sequence[Any]) -> int:
    return zlib.crc32(_encoder.encode(content))
