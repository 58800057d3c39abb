"""The application without the web server: roles, caps, malformed input, overload and faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError, StorageError
from leanrec.core.nouns import Ranking, Request
from leanrec.events.base import Event
from leanrec.events.sqlite import SqliteStore
from leanrec.runtime.answering import Answering
from leanrec.runtime.recommender import Recommender
from leanrec.serving.config import ServingConfig
from leanrec.serving.routes import ROUTES, Role, Route

from .bundles import ring
from .harness import Local, Reply

PROBLEM = {"type", "title", "status", "detail", "request_id"}


@contextmanager
def application(store: SqliteStore, recommender: Recommender | None = None, **config: Any) -> Iterator[Local]:
    local = Local(recommender or ring(), store, ServingConfig(**config))
    try:
        yield local
    finally:
        local.close()


def assert_problem(reply: Reply, status: int, kind: str = "") -> None:
    assert reply.status == status, reply.content
    assert reply.headers["content-type"] == "application/problem+json"
    assert set(reply.json) == PROBLEM
    assert reply.json["status"] == status
    assert reply.json["request_id"] == reply.headers["x-request-id"]
    if kind:
        assert reply.json["type"] == f"urn:leanrec:problem:{kind}"


# ---- what is refused


def test_an_unknown_item_is_named(local: Local) -> None:
    reply = local.ask("POST", "/v1/recommend", {"history": ["i1", "wrong"]})
    assert_problem(reply, 422, "unknown-item")
    assert "'wrong'" in reply.json["detail"]
    reply = local.ask("POST", "/v1/recommend", {"batch": [{"history": ["i1"]}, {"history": ["wrong"]}]})
    assert "batch[1].history: the item 'wrong'" in reply.json["detail"]
    assert_problem(local.ask("POST", "/v1/score", {"history": [], "items": ["wrong"]}), 422, "unknown-item")
    assert_problem(local.ask("GET", "/v1/similar/wrong"), 404, "unknown-item")
    reply = local.ask("POST", "/v1/recommend", {"history": ["w" * 500]})
    assert len(reply.json["detail"]) < 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"k": 5},
        {"user_id": 5},
        {"user_id": ""},
        {"user_id": "u" * 513},
        {"history": "i1"},
        {"history": ["i1"] * 5001},
        {"user_id": "u0", "k": 0},
        {"user_id": "u0", "k": 1001},
        {"user_id": "u0", "k": 10**30},
        {"user_id": "u0", "k": "5"},
        {"user_id": "u0", "kk": 5},
        {"user_id": "u0", "filter": {"colour": "red"}},
        {"user_id": "u0", "filter": {"colour": []}},
        {"user_id": "u0", "filter": {"size": ["x"]}},
        {"batch": []},
        {"batch": [{"user_id": "u0"}] * 257},
        {"batch": [{"user_id": "u0", "k": 1000}] * 21},
        {"batch": [{"batch": []}]},
        {"batch": [{"user_id": "u0"}], "user_id": "u0"},
    ],
)
def test_a_wrong_question_is_422(local: Local, body: Any) -> None:
    assert_problem(local.ask("POST", "/v1/recommend", body), 422, "invalid")


@pytest.mark.parametrize(
    "event",
    [
        {"event_id": "e", "user_id": "u"},
        {"event_id": "", "user_id": "u", "item_id": "i"},
        {"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": 1.7e12},
        {"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": -1},
        {"event_id": "e", "user_id": "u", "item_id": "i", "value": "much"},
        {"event_id": "e", "user_id": "u", "item_id": "i", "events": []},
    ],
)
def test_a_wrong_event_is_422_and_nothing_is_stored(local: Local, event: Any) -> None:
    good = {"event_id": "good", "user_id": "u", "item_id": "i1"}
    assert_problem(local.ask("POST", "/v1/events", {"events": [good, event]}), 422, "invalid")
    assert list(local.service.store.scan()) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nope", b'{"user_id": "\xff"}', b'{"user_id": "\\ud800"}', b'{"k": NaN}', b"[" * 100_000, b"\x00",
     b'{"filter": ' * 5000, b'{"user_id": "u0"} {}', b'{"k": 1e999}', b'{"user_id": "u0", "k": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_json_is_4xx(local: Local, body: bytes) -> None:
    reply = local.ask("POST", "/v1/recommend", body)
    assert_problem(reply, reply.status)
    assert reply.status in (400, 422)


@pytest.mark.parametrize("query", ["k=0", "k=1001", "k=x", "k=-1", "k=²", "k=1&n=2", "&" * 50 + "k=1&a=" * 20])
def test_a_wrong_query_is_422(local: Local, query: str) -> None:
    assert_problem(local.ask("GET", f"/v1/similar/i1?{query}"), 422, "invalid")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/recommend/", "/v1/similar/", "/admin/users/u0", "/../etc/passwd", "//"]
)
def test_what_is_not_in_the_table_is_404(local: Local, path: str) -> None:
    assert_problem(local.ask("GET", path), 404, "not-found")


def test_a_method_that_is_not_in_the_table_is_405(local: Local) -> None:
    paths = {route.path for route in ROUTES}
    known = {(route.method, route.path) for route in ROUTES}
    for path in paths:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "get"):
            if (method, path) not in known:
                reply = local.ask(method, path.replace("{item_id}", "i1"))
                assert_problem(reply, 405, "method")
                assert reply.headers["allow"] == ", ".join(m for m, p in known if p == path)


def test_a_body_has_a_cap_and_a_time(store: SqliteStore) -> None:
    with application(store, max_body_bytes=1000, body_seconds=0.1) as local:
        assert_problem(local.ask("POST", "/v1/recommend", [b"x"] * 1001), 413, "too-large")
        for length in ("1001", "9" * 5000, "²", "-1"):
            headers = {"content-length": length}
            assert_problem(local.ask("POST", "/v1/recommend", b"", headers), 413, "too-large")
        both = {"content-length": "10", "transfer-encoding": "chunked"}  # the length says nothing then
        assert_problem(local.ask("POST", "/v1/recommend", [b"x"] * 1001, both), 413, "too-large")
        for headers in ({}, {"content-length": "100"}):
            assert_problem(local.ask("POST", "/v1/recommend", [b"{"] * 100, headers, delay=0.05), 408, "timeout")
        for headers in ({}, {"content-length": "15"}):
            assert local.ask("POST", "/v1/recommend", [b'{"history"', b": []}"], headers).status == 200


IDS = st.sampled_from(["u0", "u1", "i1", "i2", "", "\x00", "\ud7ff"]) | st.text(max_size=5)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | IDS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(IDS, inner, max_size=4))
KEYS = ("user_id", "history", "k", "exclude", "include_seen", "filter", "explain", "titles", "batch", "items",
        "context", "events", "event_id", "item_id", "event", "timestamp", "value")  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6)
EVENTS = st.fixed_dictionaries({"events": st.lists(OBJECTS, max_size=3)})
BATCHES = st.fixed_dictionaries({"batch": st.lists(OBJECTS, max_size=3)})


class TestNothingSentIsAFault:
    """Whatever the body, the answer is a 200 of the right shape or a 4xx problem."""

    check = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

    def ask(self, local: Local, path: str, body: Any) -> None:
        reply = local.ask("POST", path, body if isinstance(body, bytes) else msgspec.json.encode(body))
        if reply.status != 200:
            assert 400 <= reply.status < 500, (reply.content, body)
            assert_problem(reply, reply.status)

    @check
    @given(body=OBJECTS | BATCHES | JSON)
    def test_recommend(self, local: Local, body: Any) -> None:
        self.ask(local, "/v1/recommend", body)

    @check
    @given(body=OBJECTS | JSON)
    def test_score(self, local: Local, body: Any) -> None:
        self.ask(local, "/v1/score", body)

    @check
    @given(body=EVENTS | OBJECTS | JSON)
    def test_events(self, local: Local, body: Any) -> None:
        self.ask(local, "/v1/events", body)

    @check
    @given(body=st.binary(max_size=60), path=st.sampled_from(["/v1/recommend", "/v1/score", "/v1/events"]))
    def test_bytes(self, local: Local, path: str, body: bytes) -> None:
        self.ask(local, path, body)

    @check
    @given(method=st.text(max_size=6), path=st.text(max_size=20), query=st.text(max_size=20))
    def test_paths(self, local: Local, method: str, path: str, query: str) -> None:
        for prefix in ("", "/v1/similar/"):
            reply = local.ask(method, prefix + path.replace("?", "") + "?" + query)
            assert reply.status == 200 or 400 <= reply.status < 500


# ---- roles

READ, WRITE, ADMIN = "read-key-1", "write-key-2", "admin-key-3"
CALLERS = {
    None: Role.NONE, f"Bearer {READ}": Role.READ, f"bearer  {READ}": Role.READ, f"Bearer {WRITE}": Role.WRITE,
    f"Bearer {ADMIN}": Role.ADMIN, "Bearer wrong": None, "Bearer ": None, f"Basic {READ}": None, READ: None, "": None,
}  # fmt: skip
BODIES: dict[str, Any] = {
    "/v1/recommend": {"history": []},
    "/v1/score": {"history": [], "items": ["i1"]},
    "/v1/events": {"events": []},
}


@pytest.fixture
def guarded(store: SqliteStore) -> Iterator[Local]:
    with application(store, read_keys=(READ,), write_keys=(WRITE,), admin_keys=(ADMIN,)) as local:
        yield local


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_role_may_do_exactly_what_the_table_says(guarded: Local, route: Route) -> None:
    for authorization, role in CALLERS.items():
        headers = {} if authorization is None else {"authorization": authorization}
        reply = guarded.ask(route.method, route.path.replace("{item_id}", "i1"), BODIES.get(route.path), headers)
        if route.role is Role.NONE or (role is not None and role >= route.role):
            assert reply.status == 200, (authorization, reply.content)
        elif not role:
            assert_problem(reply, 401, "unauthorized")
            assert reply.headers["www-authenticate"] == "Bearer"
        else:
            assert_problem(reply, 403, "forbidden")


def test_the_body_is_not_read_before_the_key(guarded: Local) -> None:
    assert_problem(guarded.ask("POST", "/v1/events", b"not json"), 401)


def test_without_keys_pages_of_other_sites_may_not_ask(local: Local) -> None:
    bad = (
        "http://evil.example",
        "null",
        "http://[::1",
        "http://localhost:3000@evil.example",
        "http://localhost.evil",
        "²",
    )
    good = ("http://localhost:3000", "https://127.0.0.1", "http://[::1]:8000")
    for origin, status in [*((origin, 403) for origin in bad), *((origin, 200) for origin in good)]:
        assert local.ask("POST", "/v1/recommend", {"history": []}, {"origin": origin}).status == status
    assert local.ask("GET", "/healthz", None, {"origin": "http://evil.example"}).status == 200


# ---- overload and faults


class Gated(Recommender):
    """Answers only while the gate is open."""

    def __init__(self) -> None:
        inner = ring()
        super().__init__(inner.source, inner.items, repeats=False, fallback=inner.fallback, attributes=inner.attributes)
        self.gate, self.entered = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def answer(self, requests: Sequence[Request]) -> list[Ranking]:
        self.entered.set()
        assert self.gate.wait(30)
        self.sizes.append(len(requests))
        return super().answer(requests)


def test_what_gathers_is_answered_together_and_what_is_too_much_is_refused(store: SqliteStore) -> None:
    gated = Gated()
    with application(store, gated, max_queue=20, max_batch=8, deadline_seconds=60) as local:
        first = local.start("POST", "/v1/recommend", {"history": ["i1"]})
        assert gated.entered.wait(10)
        waiting = [local.start("POST", "/v1/recommend", {"history": [f"i{n}"]}) for n in range(19)]
        while local.service.batcher.pending < 20:
            pass
        refused = local.ask("POST", "/v1/recommend", {"history": ["i1"]})
        assert_problem(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert local.ask("GET", "/healthz").status == 200
        gated.gate.set()
        replies = [future.result(30) for future in (first, *waiting)]
        for n, reply in enumerate(replies[1:]):
            assert reply.json["items"][0]["item_id"] == f"i{n + 1}"
        assert local.ask("POST", "/v1/recommend", {"history": ["i1"]}).status == 200
        assert local.service.batcher.pending == 0
    assert gated.sizes[:4] == [1, 8, 8, 3]


def test_as_the_bundle_recommends_unless_told_otherwise(store: SqliteStore) -> None:
    question = {"history": ["i1", "i2"], "k": 3}
    for config, kept in (({}, 7), ({"kept_answers": 0}, 0)):
        recommender = ring()
        recommender.answering = Answering(max_batch=4, kept_answers=7, pinned=True)
        with application(store, recommender, **config) as local:
            first, second = (local.ask("POST", "/v1/recommend", question).json["items"] for _ in range(2))
            text = local.ask("GET", "/metrics").content.decode()
        assert first == second
        assert (recommender.kept is not None and recommender.kept.found == 1) is (kept > 0)
        assert ("leanrec_kept_answers_found 1" in text) is (kept > 0)
    told = ServingConfig(threads=1, max_batch=9).answering(Answering(max_batch=4, pinned=True))
    assert told == Answering(threads=1, max_batch=9, pinned=True)
    assert ServingConfig().answering(None) == Answering()
    with pytest.raises(ConfigError, match="serving: max_batch lies from 1"):
        ServingConfig(max_batch=0).answering(None)


def test_new_events_are_seen_although_answers_are_kept(store: SqliteStore) -> None:
    with application(store, kept_answers=100) as local:
        for item, after in (("i5", "i6"), ("i20", "i21")):
            sent = {"event_id": item, "user_id": "u", "item_id": item, "timestamp": 1.0}
            assert local.ask("POST", "/v1/events", {"events": [sent]}).status == 200
            for _ in range(2):
                answer = local.ask("POST", "/v1/recommend", {"user_id": "u", "k": 3}).json
                assert after in [one["item_id"] for one in answer["items"]]


def test_a_question_that_waited_too_long_is_refused(store: SqliteStore) -> None:
    gated = Gated()
    with application(store, gated, deadline_seconds=0.05) as local:
        first = local.start("POST", "/v1/recommend", {"history": ["i1"]})
        assert gated.entered.wait(10)
        late = local.start("POST", "/v1/recommend", {"history": ["i1"]})
        threading.Timer(0.3, gated.gate.set).start()
        assert first.result(30).status == 200
        assert_problem(late.result(30), 503, "overloaded")
        assert b'leanrec_refused_total{reason="deadline"} 1' in local.service.metrics.render()


def test_a_question_that_would_wait_too_long_is_refused_at_once(store: SqliteStore) -> None:
    gated = Gated()
    with application(store, gated, deadline_seconds=60) as local:
        waiting = [local.start("POST", "/v1/recommend", {"history": ["i1"]}) for _ in range(12)]
        while local.service.batcher.pending < 12:
            pass
        local.service.batcher._seconds_per_unit = 10.0  # as if the last batches had been that slow
        reply = local.ask("POST", "/v1/recommend", {"history": ["i1"]})
        assert_problem(reply, 503, "overloaded")
        assert reply.headers["retry-after"] == "120"
        gated.gate.set()
        assert all(future.result(30).status == 200 for future in waiting)


def test_a_client_that_leaves_costs_nobody_else(store: SqliteStore) -> None:
    gated = Gated()
    with application(store, gated) as local:
        first, gone = (local.start("POST", "/v1/recommend", {"history": ["i1"]}) for _ in range(2))
        assert gated.entered.wait(10)
        leaving = local.start("POST", "/v1/recommend", {"history": ["i1"]})
        while local.service.batcher.pending < 3:
            pass
        leaving.cancel()
        first.cancel()  # already with the engine
        local.ask("GET", "/healthz")  # by now the event loop has seen it
        gated.gate.set()
        assert gone.result(30).status == 200
        assert local.ask("POST", "/v1/recommend", {"history": ["i1"]}).status == 200
        assert local.service.batcher.pending == 0


def test_a_client_that_leaves_while_sending_is_no_fault(local: Local, capsys: pytest.CaptureFixture[str]) -> None:
    for headers in ({}, {"content-length": "100"}):
        assert local.ask("POST", "/v1/events", [b'{"events"', None], headers).status == 0
    assert capsys.readouterr().err == ""
    assert b'leanrec_requests_total{route="/v1/events",method="POST",status="499"} 2' in local.service.metrics.render()


def test_closing_answers_what_waits(store: SqliteStore) -> None:
    gated = Gated()
    with application(store, gated) as local:
        futures = [local.start("POST", "/v1/recommend", {"history": ["i1"]})]
        assert gated.entered.wait(10)
        futures += [local.start("POST", "/v1/recommend", {"history": ["i1"]}) for _ in range(4)]
        while local.service.batcher.pending < 5:
            pass
        threading.Timer(0.2, gated.gate.set).start()
    assert all(future.result(30).status == 200 for future in futures)


def test_one_bad_question_does_not_cost_others_their_answer(store: SqliteStore) -> None:
    gated = Gated()
    with application(store, gated) as local:
        first = local.start("POST", "/v1/recommend", {"history": ["i1"]})
        assert gated.entered.wait(10)
        bad = local.start("POST", "/v1/recommend", {"history": ["i1"], "filter": {"weight": ["1"]}})
        good = local.start("POST", "/v1/recommend", {"history": ["i1"]})
        while local.service.batcher.pending < 3:
            pass
        gated.gate.set()
        assert first.result(30).status == good.result(30).status == 200
        reply = bad.result(30)
        assert_problem(reply, 422, "invalid")
        assert "weight" in reply.json["detail"]


def test_a_batch_larger_than_the_queue_is_answered_when_nothing_waits(store: SqliteStore) -> None:
    with application(store, max_queue=4) as local:
        reply = local.ask("POST", "/v1/recommend", {"batch": [{"history": ["i1"], "k": 1}] * 10})
        assert [part["items"][0]["item_id"] for part in reply.json["batch"]] == ["i2"] * 10


SECRET = "the secret of user u0 lies in /home/secret"


class Broken(Recommender):
    def answer(self, requests: Sequence[Request]) -> list[Ranking]:
        raise RuntimeError(SECRET)


def test_a_fault_leaks_nothing_and_the_next_question_is_answered(
    store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = ring()
    broken = Broken(inner.source, inner.items, repeats=False, fallback=inner.fallback)
    with application(store, broken) as local:
        for body in ({"user_id": "u0"}, {"batch": [{"user_id": "u0"}]}):
            reply = local.ask("POST", "/v1/recommend", body)
            assert_problem(reply, 500, "internal")
            assert b"secret" not in reply.content
        assert local.ask("GET", "/v1/similar/i1").status == 200
    said = capsys.readouterr().err
    assert "RuntimeError" in said
    assert reply.json["request_id"] in said
    assert SECRET not in said


def failing(error: Exception) -> Callable[[Sequence[Event]], Future[tuple[int, int]]]:
    def submit(events: Sequence[Event]) -> Future[tuple[int, int]]:
        future: Future[tuple[int, int]] = Future()
        future.set_exception(error)
        return future

    return submit


def test_events_that_cannot_be_stored_are_503_without_a_path(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    event = {"event_id": "e", "user_id": "u9", "item_id": "i1"}
    monkeypatch.setattr(local.service.store, "submit", failing(StorageError("no space left on /secret/place")))
    reply = local.ask("POST", "/v1/events", {"events": [event]})
    assert_problem(reply, 503, "storage")
    assert reply.headers["retry-after"] == "1"
    assert b"secret" not in reply.content
    monkeypatch.undo()
    assert local.ask("POST", "/v1/events", {"events": [event]}).json["accepted"] == 1


def test_too_many_event_requests_are_refused(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with application(store, max_event_requests=1) as local:
        future: Future[tuple[int, int]] = Future()
        monkeypatch.setattr(store, "submit", lambda events: future)
        first = local.start("POST", "/v1/events", {"events": []})
        while not local.service.event_requests:
            pass
        assert_problem(local.ask("POST", "/v1/events", {"events": []}), 503, "overloaded")
        future.set_result((0, 0))
        assert first.result(30).status == 200


def test_readiness_follows_the_service(local: Local) -> None:
    for status in ("starting", "stopping"):
        local.service.status = status
        assert_problem(local.ask("GET", "/readyz"), 503, status)
        assert local.ask("GET", "/healthz").status == 200


# ---- what is answered


def test_ids_that_are_numbers_are_text_in_http(store: SqliteStore) -> None:
    with application(store, ring(numeric=True)) as local:
        answer = local.ask("POST", "/v1/recommend", {"history": ["1005"], "k": 1, "exclude": ["1006"]}).json
        assert [item["item_id"] for item in answer["items"]] == ["1007"]
        for other in ("01005", "1_005", "+1005", " 1005", "١٠٠٥", "9" * 30, "9" * 5000, "x"):
            assert local.ask("POST", "/v1/recommend", {"history": [other]}).status == 422
        events = [{"event_id": f"e{n}", "user_id": "7", "item_id": i} for n, i in enumerate(["1009", "new", "9" * 30])]
        assert local.ask("POST", "/v1/events", {"events": events}).json["accepted"] == 3
        assert [event.item_id for event in store.scan()] == [1009, "new", "9" * 30]
        assert local.ask("POST", "/v1/recommend", {"user_id": "7", "k": 1}).json["items"][0]["item_id"] == "1010"


def test_titles_and_reasons_are_extra(local: Local) -> None:
    plain, titled = (
        local.ask("POST", "/v1/recommend", {"history": ["i1"], "k": 2, "titles": wanted}).json["items"]
        for wanted in (False, True)
    )
    assert [set(item) for item in plain] == [{"item_id", "score", "source"}] * 2
    assert [item.pop("title") for item in titled] == ["Title 2", "Title 3"]
    assert titled == plain
    mixed = {"batch": [{"history": ["i1"], "k": 1, "titles": True}, {"history": ["i1"], "k": 1}]}
    first, second = local.ask("POST", "/v1/recommend", mixed).json["batch"]
    assert first["items"][0]["title"] == "Title 2"
    assert "title" not in second["items"][0]


def test_titles_of_a_catalogue_without_any(store: SqliteStore) -> None:
    with application(store, ring(attributes=False)) as local:
        answer = local.ask("POST", "/v1/recommend", {"history": ["i1"], "k": 1, "titles": True}).json
        assert set(answer["items"][0]) == {"item_id", "score", "source"}


def test_reasons_are_passed_on(store: SqliteStore) -> None:
    class Explaining(Recommender):
        def answer(self, requests: Sequence[Request]) -> list[Ranking]:
            assert all(request.explain for request in requests)
            return [Ranking(["i1", "i2"], [1.0, 0.5], ["ring"] * 2, why=["because", "so"]) for _ in requests]

    inner = ring()
    with application(store, Explaining(inner.source, inner.items, repeats=False)) as local:
        answer = local.ask("POST", "/v1/recommend", {"history": ["i1"], "explain": True}).json
        assert [item["why"] for item in answer["items"]] == ["because", "so"]


def test_a_history_wins_over_a_user(local: Local) -> None:
    body = {"user_id": "u0", "history": ["i30"], "k": 1}
    assert local.ask("POST", "/v1/recommend", body).json["items"][0]["item_id"] == "i31"


def test_scores_of_an_unknown_user_are_degraded(local: Local) -> None:
    reply = local.ask("POST", "/v1/score", {"user_id": "nobody", "items": ["i0", "i59"], "context": {"hour": 3}})
    assert reply.json["degraded"] is True
    assert reply.json["scores"] == [1.0, 0.0]
    assert local.ask("POST", "/v1/score", {"user_id": "u1", "items": ["i6"]}).json["degraded"] is False


def test_a_request_id_that_is_no_word_is_replaced(local: Local) -> None:
    for given_id, kept in (("abc-1.2_3", True), ("a b", False), ("x" * 65, False), ("", False), ("a\n", False)):
        reply = local.ask("GET", "/healthz", None, {"x-request-id": given_id})
        assert (reply.headers["x-request-id"] == given_id) is kept
