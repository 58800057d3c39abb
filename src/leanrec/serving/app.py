"""The RSGI application: routing, roles, caps, decoding, and errors as problem documents."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import os
import re
import time
import traceback
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.serving.config import ServingConfig
from leanrec.serving.handlers import Call, Service, Text
from leanrec.serving.problems import Problem
from leanrec.serving.routes import ROUTES, Role, Route, find

__all__ = ["App"]

_JSON = "application/json"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOCAL = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?")
_GONE = 499
"""In the metrics only: the client left before it had an answer."""


class Keys:
    """Which role a request has."""

    def __init__(self, config: ServingConfig) -> None:
        kinds = ((Role.READ, config.read_keys), (Role.WRITE, config.write_keys), (Role.ADMIN, config.admin_keys))
        self._digests = [(_digest(key), role) for role, keys in kinds for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def role(self, authorization: str | None) -> Role | None:
        """The role of an Authorization header; None for a key that is not known."""
        if authorization is None:
            return Role.NONE
        scheme, _, key = authorization.partition(" ")
        found: Role | None = None
        presented = _digest(key.strip())
        for digest, role in self._digests:  # all of them, so that time tells nothing
            if hmac.compare_digest(digest, presented):
                found = role
        return found if scheme.lower() == "bearer" else None


class App:
    """Answers one request after the other; never lets an exception out."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.keys = Keys(service.config)
        self._decoders = {route: msgspec.json.Decoder(route.request) for route in ROUTES if route.request is not None}
        self._encode = msgspec.json.Encoder().encode
        self._prefix, self._numbers = os.urandom(4).hex(), itertools.count(1)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        start = time.perf_counter()
        given = scope.headers.get("x-request-id")
        request_id = given if given and _REQUEST_ID.fullmatch(given) else f"{self._prefix}-{next(self._numbers):x}"
        label = "other"
        headers: Iterable[tuple[str, str]] = ()
        try:
            route, value = find(scope.method, scope.path)
            label = route.path
            self._authorise(route, scope.headers)
            body = await self._body(route, scope, protocol)
            reply = await route.handler(self.service, Call(request_id, body, value, _query(scope.query_string)))
            if isinstance(reply, Text):
                status, kind, content = reply.status, reply.content_type, reply.content
            else:
                status, kind, content = 200, _JSON, self._encode(reply)
        except ProtocolClosed:
            status, kind, content = _GONE, "", b""
        except Exception as error:
            problem = self._problem(error, request_id)
            status, kind = problem.status, "application/problem+json"
            content, headers = self._encode(problem.body(request_id)), problem.headers
        if status != _GONE:
            protocol.response_bytes(status, [("content-type", kind), ("x-request-id", request_id), *headers], content)
        self.service.metrics.requests.add(label, scope.method if label != "other" else "other", str(status))
        self.service.metrics.seconds.observe(time.perf_counter() - start, label)

    def _authorise(self, route: Route, headers: Any) -> None:
        if route.role is Role.NONE:
            return
        if not self.keys:
            # Open to this machine, not to pages of other sites that a browser on it shows.
            origin = headers.get("origin")
            if route.role is Role.ADMIN or (origin and not _LOCAL.fullmatch(origin)):
                raise Problem(403, "forbidden", "Forbidden", "this needs a key, and the server has none configured")
            return
        role = self.keys.role(headers.get("authorization"))
        if not role:
            detail = "send a key as  Authorization: Bearer KEY" if role is Role.NONE else "this key is not known"
            raise Problem(401, "unauthorized", "Unauthorized", detail, www_authenticate="Bearer")
        if role < route.role:
            detail = f"this needs a key for {route.role.name.lower()}, yours is for {role.name.lower()}"
            raise Problem(403, "forbidden", "Forbidden", detail)

    async def _body(self, route: Route, scope: Any, protocol: Any) -> Any:
        decoder = self._decoders.get(route)
        if decoder is None:
            return None
        try:
            async with asyncio.timeout(self.service.config.body_seconds):
                raw = await self._read(scope, protocol)
        except TimeoutError as error:
            raise Problem(408, "timeout", "Request timeout", "the body took too long to arrive") from error
        try:
            return decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise Problem.invalid(str(error)) from error
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Problem(400, "json", "The body is not valid JSON", str(error)) from error

    async def _read(self, scope: Any, protocol: Any) -> bytes:
        cap = self.service.config.max_body_bytes
        length = scope.headers.get("content-length")
        if length is not None and "transfer-encoding" not in scope.headers:
            # The web server reads exactly that many bytes.
            if not (length.isascii() and length.isdigit() and len(length) < 16 and int(length) <= cap):
                raise _too_large(cap)
            whole: bytes = await protocol()
            return whole
        chunks, size = [], 0
        async for chunk in protocol:
            chunks.append(chunk)
            size += len(chunk)
            if size > cap:
                raise _too_large(cap)
        return b"".join(chunks)

    def _problem(self, error: Exception, request_id: str) -> Problem:
        if isinstance(error, Problem):
            return error
        if isinstance(error, InputError):
            # What only the engine can judge, such as a filter on a column that is not there.
            return Problem.invalid(str(error))
        # The message of an exception may hold an id: where it happened is enough to find it.
        where = "".join(traceback.format_tb(error.__traceback__))
        say(f"request {request_id} failed with {type(error).__name__}\n{where}")
        return Problem(500, "internal", "Internal error", "this is a fault of the server; the request id finds it")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _too_large(cap: int) -> Problem:
    return Problem(413, "too-large", "Body too large", f"a body may have at most {cap} bytes")


def _query(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=10))
    except ValueError as error:
        raise Problem.invalid("the query string cannot be read") from error
