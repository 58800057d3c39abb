"""What travels: requests with their caps, and responses. The OpenAPI document is made from these."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

__all__ = [
    "EventIn",
    "EventsRequest",
    "EventsResponse",
    "Health",
    "Item",
    "ModelInfo",
    "ModelsResponse",
    "Query",
    "RecommendRequest",
    "RecommendResponse",
    "Recommended",
    "ScoreRequest",
    "ScoreResponse",
    "SimilarResponse",
]

MAX_K = 1000
MAX_ANSWERS = 20_000
"""Items in all answers to one request together."""

IdText = Annotated[str, Meta(min_length=1, max_length=512)]
Ids = Annotated[list[IdText], Meta(max_length=5000)]
K = Annotated[int, Meta(ge=1, le=MAX_K)]
FilterValues = Annotated[list[Annotated[str, Meta(max_length=512)]], Meta(min_length=1, max_length=100)]
Scalar = Annotated[str, Meta(max_length=4096)] | int | float | bool | None
Context = Annotated[dict[Annotated[str, Meta(max_length=128)], Scalar], Meta(max_length=64)]


class Query(Struct, forbid_unknown_fields=True, kw_only=True):
    """One question: a user, or a bare history (which wins when both are given)."""

    user_id: IdText | None = None
    history: Ids | None = None
    """Oldest first."""
    k: K = 10
    exclude: Ids = []
    include_seen: bool | None = None
    """Whether items of the history may be answered; null: as the data set's protocol says."""
    filter: Annotated[dict[Annotated[str, Meta(max_length=128)], FilterValues], Meta(max_length=16)] = {}
    """Column -> accepted values."""
    context: Context = {}
    """Column -> value, what is known of the situation, for models that look at it."""
    explain: bool = False
    titles: bool = False
    """Also answer each item's title, where the catalogue has one."""


class RecommendRequest(Query, kw_only=True):
    """One question, or many in `batch`."""

    batch: Annotated[list[Query], Meta(min_length=1, max_length=256)] | None = None


class Item(Struct, omit_defaults=True):
    """One answer; `source` is the part of the recommender it came from."""

    item_id: str
    score: float
    source: str
    title: str | None = None
    why: str | None = None


class Recommended(Struct):
    """The answer to one question of a batch, best first."""

    items: list[Item]
    degraded: bool


class RecommendResponse(Struct, omit_defaults=True):
    """`items` and `degraded` for one question; `batch` for many, in their order."""

    model: str
    request_id: str
    items: list[Item] | None = None
    degraded: bool | None = None
    """Whether the answer is the popular items, for want of anything known about the user."""
    batch: list[Recommended] | None = None


class ScoreRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Items to score for a user, or for a bare history (which wins when both are given)."""

    user_id: IdText | None = None
    history: Ids | None = None
    items: Annotated[Ids, Meta(min_length=1)]
    context: Context = {}
    """Column -> value, what is known of the situation, for models that look at it."""


class ScoreResponse(Struct):
    """One score per item of the request, in its order."""

    scores: list[float]
    model: str
    request_id: str
    degraded: bool


class SimilarResponse(Struct):
    """Items most like one item, best first."""

    items: list[Item]
    model: str
    request_id: str


class EventIn(Struct, forbid_unknown_fields=True, kw_only=True):
    """One thing a user did. `event_id` makes sending it again harmless."""

    event_id: IdText
    user_id: IdText
    item_id: IdText
    event: Annotated[str, Meta(min_length=1, max_length=64)] = "click"
    timestamp: Annotated[float, Meta(ge=0, lt=1e11)] | None = None
    """Unix seconds; null: now."""
    value: float | None = None


class EventsRequest(Struct, forbid_unknown_fields=True):
    """Events to keep."""

    events: Annotated[list[EventIn], Meta(max_length=5000)]


class EventsResponse(Struct):
    """Sent only after the accepted events are durable."""

    accepted: int
    duplicates: int
    request_id: str


class ModelInfo(Struct):
    """A model that is being served."""

    id: str
    active: bool
    items: int
    source: str


class ModelsResponse(Struct):
    """The models of this server."""

    models: list[ModelInfo]
    request_id: str


class Health(Struct):
    """`ok`, `starting` or `stopping`."""

    status: str
