"""Errors as `application/problem+json` (RFC 9457): what a client may know, and nothing about the inside."""

from __future__ import annotations

import msgspec

__all__ = ["Problem", "ProblemBody"]

_DETAIL_CHARS = 300


class ProblemBody(msgspec.Struct, rename={"kind": "type"}):
    """Body of every error."""

    kind: str
    title: str
    status: int
    detail: str
    request_id: str


class Problem(Exception):
    """Ends a request with an error. `kind` is the stable name of the error, `detail` one sentence for this case."""

    def __init__(self, status: int, kind: str, title: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.kind, self.title, self.detail = status, kind, title, detail[:_DETAIL_CHARS]
        self.headers = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def body(self, request_id: str) -> ProblemBody:
        return ProblemBody(f"urn:leanrec:problem:{self.kind}", self.title, self.status, self.detail, request_id)

    @classmethod
    def invalid(cls, detail: str) -> Problem:
        return cls(422, "invalid", "The request is not valid", detail)

    @classmethod
    def unknown_item(cls, item_id: str, where: str) -> Problem:
        name = item_id if len(item_id) <= 100 else f"{item_id[:100]}…"
        return cls(422, "unknown-item", "Unknown item", f"{where}: the item {name!r} is not in the catalogue")

    @classmethod
    def overloaded(cls, retry_after: int) -> Problem:
        detail = f"there is more to do than can be answered in time: try again in {retry_after} s"
        return cls(503, "overloaded", "Overloaded", detail, retry_after=str(retry_after))
