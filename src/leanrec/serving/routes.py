"""One table of routes: routing, the check of roles and the OpenAPI document come from it; the rest is refused."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec import Struct

from leanrec.serving import handlers, schemas
from leanrec.serving.handlers import Call, Service, Text
from leanrec.serving.problems import Problem

__all__ = ["ROUTES", "Role", "Route", "find"]


class Role(enum.IntEnum):
    """Who may call; a higher role may do what a lower one may."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path; `{item_id}` at its end takes the rest of the path."""

    method: str
    path: str
    role: Role
    handler: Callable[[Service, Call], Awaitable[Struct | Text]]
    request: type[Struct] | None
    response: type[Struct] | None
    """None: text."""
    summary: str

    @property
    def prefix(self) -> str:
        """The fixed part of the path."""
        return self.path.partition("{")[0]


ROUTES = (
    Route(
        "POST", "/v1/recommend", Role.READ, handlers.recommend,
        schemas.RecommendRequest, schemas.RecommendResponse, "Items for a user, a history, or many of them",
    ),
    Route(
        "POST", "/v1/score", Role.READ, handlers.score,
        schemas.ScoreRequest, schemas.ScoreResponse, "Scores of given items for a user or a history",
    ),
    Route(
        "GET", "/v1/similar/{item_id}", Role.READ, handlers.similar,
        None, schemas.SimilarResponse, "Items most like one item",
    ),
    Route(
        "POST", "/v1/events", Role.WRITE, handlers.events,
        schemas.EventsRequest, schemas.EventsResponse, "Keep events; answered when they are durable",
    ),
    Route("GET", "/v1/models", Role.READ, handlers.models, None, schemas.ModelsResponse, "The models being served"),
    Route("GET", "/healthz", Role.NONE, handlers.health, None, schemas.Health, "Whether the process lives"),
    Route("GET", "/readyz", Role.NONE, handlers.ready, None, schemas.Health, "Whether it can answer"),
    Route("GET", "/metrics", Role.READ, handlers.metrics, None, None, "Prometheus metrics"),
    Route("GET", "/openapi.json", Role.NONE, handlers.openapi, None, None, "This description"),
)  # fmt: skip

_EXACT: dict[str, dict[str, Route]] = {}
_PREFIXES: list[tuple[str, dict[str, Route]]] = []
for _route in ROUTES:
    if _route.prefix == _route.path:
        _EXACT.setdefault(_route.path, {})[_route.method] = _route
    else:
        _PREFIXES.append((_route.prefix, {_route.method: _route}))


def find(method: str, path: str) -> tuple[Route, str]:
    """The route of a request and the variable part of its path, or a 404 or 405."""
    methods: dict[str, Route] | None = _EXACT.get(path)
    value = ""
    if methods is None:
        for prefix, candidates in _PREFIXES:
            if path.startswith(prefix) and len(path) > len(prefix):
                methods, value = candidates, path[len(prefix) :]
    if methods is None:
        raise Problem(404, "not-found", "Not found", "there is no such path; /openapi.json lists those there are")
    route = methods.get(method)
    if route is None:
        allowed = ", ".join(sorted(methods))
        raise Problem(405, "method", "Method not allowed", f"this path takes {allowed}", allow=allowed)
    return route, value
