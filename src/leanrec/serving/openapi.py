"""The OpenAPI 3.1 document, made from the table of routes and the schemas."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from leanrec import __version__
from leanrec.serving.problems import ProblemBody
from leanrec.serving.routes import ROUTES, Role, Route
from leanrec.serving.schemas import MAX_K

__all__ = ["document"]


@cache
def document() -> bytes:
    """The document as JSON."""
    kinds = [ProblemBody, *(kind for route in ROUTES for kind in (route.request, route.response) if kind is not None)]
    references, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(kinds, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "leanrec", "version": __version__},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    text = "application/json" if route.path.endswith(".json") else "text/plain"
    content = {"application/json": {"schema": schemas[route.response]}} if route.response else {text: {}}
    problem = {"application/problem+json": {"schema": schemas[ProblemBody]}}
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "responses": {
            "200": {"description": "OK", "content": content},
            "default": {"description": "An error", "content": problem},
        },
        "x-role": route.role.name.lower(),
    }
    if route.role is not Role.NONE:
        operation["security"] = [{"key": []}, {}]
    if route.request is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[route.request]}},
        }
    if "{" in route.path:
        name = route.path[len(route.prefix) + 1 : -1]
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}},
            {"name": "k", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MAX_K, "default": 10}},
        ]
    return operation
