"""What each route does: from a checked request to a response. Nothing here knows of HTTP beyond `Problem`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from leanrec.core.errors import StorageError
from leanrec.core.ids import Id
from leanrec.core.nouns import Ranking, Request
from leanrec.events.base import Event, EventStore
from leanrec.runtime.recommender import Recommender
from leanrec.serving import schemas
from leanrec.serving.batcher import Batcher
from leanrec.serving.config import ServingConfig
from leanrec.serving.metrics import Metrics
from leanrec.serving.problems import Problem
from leanrec.serving.state import UserState, parse_id

__all__ = ["Call", "Service", "Text"]


@dataclass(slots=True)
class Service:
    """All that one serving process owns."""

    recommender: Recommender
    state: UserState
    batcher: Batcher
    store: EventStore
    config: ServingConfig
    metrics: Metrics
    status: str = "starting"
    event_requests: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its decoded body, the variable part of its path, its query parameters."""

    request_id: str
    body: Any = None
    path_value: str = ""
    query: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Text:
    """A response that is not JSON made here, or not with status 200."""

    content: bytes
    content_type: str = "application/json"
    status: int = 200


async def recommend(service: Service, call: Call) -> Struct:
    body: schemas.RecommendRequest = call.body
    if body.batch is None:
        queries: Sequence[schemas.Query] = [body]
        requests = [_request(service, body, "")]
    else:
        if body.user_id is not None or body.history is not None:
            raise Problem.invalid("give either one question or a batch, not both")
        queries = body.batch
        requests = [_request(service, query, f"batch[{at}].") for at, query in enumerate(queries)]
        if sum(query.k for query in queries) > schemas.MAX_ANSWERS:
            raise Problem.invalid(f"all k of a batch together may be at most {schemas.MAX_ANSWERS}")
    rankings = await service.batcher.answer(requests)
    wanted = [ranking.item_ids if query.titles else () for ranking, query in zip(rankings, queries, strict=True)]
    titles: list[list[str | None]] = [[] for _ in wanted]
    if any(wanted):
        titles = await service.batcher.call(lambda: [_titles(service.recommender, ids) for ids in wanted])
    answers = [_items(ranking, named) for ranking, named in zip(rankings, titles, strict=True)]
    model = service.recommender.id
    if body.batch is None:
        return schemas.RecommendResponse(model, call.request_id, answers[0], rankings[0].degraded)
    batch = [schemas.Recommended(items, r.degraded) for items, r in zip(answers, rankings, strict=True)]
    return schemas.RecommendResponse(model, call.request_id, batch=batch)


async def score(service: Service, call: Call) -> Struct:
    body: schemas.ScoreRequest = call.body
    question = schemas.Query(user_id=body.user_id, history=body.history, context=body.context)
    request = _request(service, question, "")
    items = _known_items(service, body.items, "items")

    def run() -> tuple[list[float], bool]:
        resolved = service.batcher.resolve(request)
        return [float(s) for s in service.recommender.score([resolved], [items])[0]], not resolved.history

    scores, degraded = await service.batcher.call(run)
    return schemas.ScoreResponse(scores, service.recommender.id, call.request_id, degraded)


async def similar(service: Service, call: Call) -> Struct:
    text = call.query.get("k", "10")
    k = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= k <= schemas.MAX_K or set(call.query) - {"k"}:
        raise Problem.invalid(f"the only parameter is k, a whole number from 1 to {schemas.MAX_K}")
    item_id = parse_id(service.recommender.items.parse, call.path_value)
    if service.recommender.items.row(item_id) < 0:
        problem = Problem.unknown_item(call.path_value, "path")
        raise Problem(404, problem.kind, problem.title, problem.detail)
    ranking = await service.batcher.call(lambda: service.recommender.similar(item_id, k))
    return schemas.SimilarResponse(_items(ranking, []), service.recommender.id, call.request_id)


async def events(service: Service, call: Call) -> Struct:
    """Answers only after the events are durable; they change their users' next answers at once."""
    if service.event_requests >= service.config.max_event_requests:
        service.metrics.refused.add("events")
        raise Problem.overloaded(1)
    now = time.time()
    received = [_event(service, event, now) for event in call.body.events]
    service.event_requests += 1
    try:
        accepted, duplicates = await asyncio.wrap_future(service.store.submit(received))
    except StorageError as error:
        service.metrics.storage_errors.add()
        detail = "the events could not be stored, and none of them was: send them again"
        raise Problem(503, "storage", "Events cannot be stored now", detail, retry_after="1") from error
    finally:
        service.event_requests -= 1
        # Also when it failed or the client left: what is durable after all must be seen.
        service.state.touch({event.user_id for event in received})
    service.metrics.events.add("accepted", by=accepted)
    service.metrics.events.add("duplicate", by=duplicates)
    return schemas.EventsResponse(accepted, duplicates, call.request_id)


async def models(service: Service, call: Call) -> Struct:
    recommender = service.recommender
    info = schemas.ModelInfo(recommender.id, True, len(recommender.items), recommender.source.name)
    return schemas.ModelsResponse([info], call.request_id)


async def health(service: Service, call: Call) -> Struct:
    return schemas.Health("ok")


async def ready(service: Service, call: Call) -> Struct | Text:
    if service.status == "ok":
        return schemas.Health("ok")
    raise Problem(503, service.status, "Not ready", f"the server is {service.status}", retry_after="1")


async def metrics(service: Service, call: Call) -> Text:
    return Text(service.metrics.render(), "text/plain; version=0.0.4; charset=utf-8")


async def openapi(service: Service, call: Call) -> Text:
    from leanrec.serving.openapi import document

    return Text(document())


def _request(service: Service, query: schemas.Query, where: str) -> Request:
    if query.user_id is None and query.history is None:
        raise Problem.invalid(f"{where}user_id or {where}history is needed; an empty history asks for popular items")
    parse = service.recommender.items.parse
    history = None if query.history is None else _known_items(service, query.history, f"{where}history")
    return Request(
        user_id=None if query.user_id is None else service.state.parse(query.user_id),
        history=history,
        k=query.k,
        # What is not in the catalogue is never answered anyway.
        exclude=[i for i in (parse_id(parse, t) for t in query.exclude) if service.recommender.items.row(i) >= 0],
        include_seen=query.include_seen,
        filter=query.filter,
        explain=query.explain,
        context=query.context,
    )


def _known_items(service: Service, texts: Sequence[str], where: str) -> list[Id]:
    items = service.recommender.items
    ids = [parse_id(items.parse, text) for text in texts]
    for text, identity in zip(texts, ids, strict=True):
        if items.row(identity) < 0:
            raise Problem.unknown_item(text, where)
    return ids


def _event(service: Service, event: schemas.EventIn, now: float) -> Event:
    return Event(
        event_id=event.event_id,
        user_id=service.state.parse(event.user_id),
        item_id=parse_id(service.recommender.items.parse, event.item_id),
        event=event.event,
        timestamp=now if event.timestamp is None else event.timestamp,
        value=event.value,
    )


def _titles(recommender: Recommender, ids: Sequence[Id]) -> list[str | None]:
    if recommender.attributes is None or not ids:
        return []
    return [recommender.attributes.title(int(row)) for row in recommender.items.rows(ids)]


def _items(ranking: Ranking, titles: Sequence[str | None]) -> list[schemas.Item]:
    items = [
        schemas.Item(str(identity), float(value), source)
        for identity, value, source in zip(ranking.item_ids, ranking.scores, ranking.sources, strict=True)
    ]
    for item, title in zip(items, titles, strict=False):
        item.title = title
    for item, why in zip(items, ranking.why or (), strict=False):
        item.why = None if why is None else str(why)
    return items
