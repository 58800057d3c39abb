"""A real serving process, asked over the wire."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from leanrec.core.errors import ConfigError, InputError, MachineError
from leanrec.core.nouns import Request
from leanrec.events.sqlite import SqliteStore
from leanrec.runtime.recommender import Recommender
from leanrec.serving.config import ServingConfig
from leanrec.serving.server import default_store, serve

from .bundles import save_bundle
from .harness import running


def sent(number: int, user: str, item: str) -> dict[str, object]:
    return {"event_id": f"e{number}", "user_id": user, "item_id": item, "timestamp": 1e9 + number}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = save_bundle(tmp_path_factory.mktemp("served") / "ring")
    with running(folder) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def test_http_answers_as_python_does(client: httpx.Client, bundle: Path) -> None:
    recommender = Recommender.load(bundle)
    questions = [
        {"user_id": "u0", "k": 5},
        {"user_id": "ünï/cödé", "k": 3},
        {"history": ["i9", "i30"], "k": 60},
        {"history": ["i9"], "k": 4, "include_seen": True},
        {"history": ["i9"], "k": 4, "exclude": ["i10", "no such item"]},
        {"history": ["i9"], "k": 4, "filter": {"colour": ["red"]}},
        {"history": [], "k": 2},
        {"user_id": "nobody", "k": 2},
    ]
    rankings = recommender.answer([Request(**question) for question in questions])  # type: ignore[arg-type]
    singles = [client.post("/v1/recommend", json=question).raise_for_status().json() for question in questions]
    batch = client.post("/v1/recommend", json={"batch": questions}).raise_for_status().json()
    for ranking, single, part in zip(rankings, singles, batch["batch"], strict=True):
        assert [item["item_id"] for item in single["items"]] == ranking.item_ids
        assert [item["score"] for item in single["items"]] == ranking.scores
        assert [item["source"] for item in single["items"]] == ranking.sources
        assert single["degraded"] == ranking.degraded
        assert (single["items"], single["degraded"]) == (part["items"], part["degraded"])
        assert single["model"] == batch["model"] == recommender.id


def test_events_change_the_next_answer(client: httpx.Client) -> None:
    question = {"user_id": "newcomer", "k": 2}
    assert client.post("/v1/recommend", json=question).json()["degraded"] is True
    events = {"events": [sent(1, "newcomer", "i20"), sent(2, "newcomer", "brand new item")]}
    assert client.post("/v1/events", json=events).json()["accepted"] == 2
    assert client.post("/v1/events", json=events).json()["duplicates"] == 2
    answer = client.post("/v1/recommend", json=question).json()
    assert [item["item_id"] for item in answer["items"]] == ["i21", "i22"]
    assert answer["degraded"] is False


def test_the_other_routes(client: httpx.Client, bundle: Path) -> None:
    similar = client.get("/v1/similar/i5", params={"k": 2}).raise_for_status().json()
    assert [item["item_id"] for item in similar["items"]] == ["i6", "i7"]
    scored = client.post("/v1/score", json={"history": ["i5"], "items": ["i6", "i50"]}).raise_for_status().json()
    assert scored["scores"] == [3.0, 0.0]
    (model,) = client.get("/v1/models").raise_for_status().json()["models"]
    assert model == {"id": Recommender.load(bundle).id, "active": True, "items": 60, "source": "ring"}
    for path in ("/healthz", "/readyz"):
        assert client.get(path).raise_for_status().json() == {"status": "ok"}
    assert "leanrec_requests_total" in client.get("/metrics").raise_for_status().text
    assert client.get("/openapi.json").raise_for_status().json()["openapi"].startswith("3.")


def test_paths_are_decoded_and_headers_kept(client: httpx.Client) -> None:
    refused = client.get("/v1/similar/no%2Fsuch%20item", headers={"x-request-id": "mine-1"})
    assert refused.status_code == 404
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["x-request-id"] == "mine-1" == refused.json()["request_id"]
    assert "no/such item" in refused.json()["detail"]


POST = b"POST /v1/recommend HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize(
    ("wire", "statuses"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 500_000 + b"\r\n\r\n", (431,)),
        (b"GET /healthz HTTP/1.1\r\n" + b"".join(b"h%d: a\r\n" % n for n in range(1000)) + b"\r\n", (431,)),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", (414, 431)),
        (POST + b"transfer-encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 40, (413,)),
        (POST + b"content-length: 5000000\r\n\r\n" + b"x" * 10, (413,)),
        (POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!", (400,)),
        (POST + b"content-length: -5\r\n\r\nhello!", (400,)),
        (POST + b"content-length: 2\r\norigin: \xff\xfe\r\n\r\n{}", (403, 422)),
        (b"\x16\x03\x01\x02\x00\x01\x00", (400,)),
    ],
)  # fmt: skip
def test_what_is_not_quite_http_is_refused(client: httpx.Client, wire: bytes, statuses: tuple[int, ...]) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):  # refused before all was sent
            connection.sendall(wire)
        with contextlib.suppress(ConnectionError):
            assert int(connection.recv(4096).split()[1]) in statuses
    assert client.get("/healthz").status_code == 200


def test_memory_and_time_are_said_and_heavy_packages_are_not_loaded(tmp_path: Path) -> None:
    with running(save_bundle(tmp_path / "ring")) as server:
        with httpx.Client(base_url=server.url) as client:
            client.post("/v1/recommend", json={"user_id": "u0"}).raise_for_status()
            client.post("/v1/events", json={"events": [sent(0, "u0", "i1")]}).raise_for_status()
            client.get("/openapi.json").raise_for_status()
        assert len(server.said) == 1
        assert " MB, ready " in server.said[0]
        assert server.stop(signal.SIGINT) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""


def test_a_restart_keeps_events_and_a_stop_finishes_what_is_under_way(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "ring")
    with running(bundle) as server:
        host, port = server.url.removeprefix("http://").split(":")
        body = b'{"events":[{"event_id":"slow","user_id":"w","item_id":"i3","timestamp":1}]}'
        head = f"POST /v1/events HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((host, int(port)), timeout=20) as half:
            half.sendall(head + body[:20])
            time.sleep(0.3)  # the request is under way when the server is told to stop
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            half.sendall(body[20:])
            assert b'"accepted":1' in half.recv(4096)
        assert server.process.wait(30) == 0
    with running(bundle) as server, httpx.Client(base_url=server.url) as client:
        answer = client.post("/v1/recommend", json={"user_id": "w", "k": 1}).raise_for_status().json()
        assert [item["item_id"] for item in answer["items"]] == ["i4"]


def test_a_stop_waits_only_so_long(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "ring")
    (tmp_path / "config.toml").write_text("stop_seconds = 0.3\nbody_seconds = 600")
    with running(bundle, "0", str(tmp_path / "config.toml")) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as half:
            half.sendall(b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
            time.sleep(0.3)
            assert server.stop(signal.SIGTERM) == 0
        assert len(server.said) == 1


def test_a_stop_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "ring")
    acknowledged: list[str] = []
    odd: list[object] = []
    started = threading.Event()

    def load(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            for step in range(100_000):
                event = {**sent(0, f"u{number}", "i1"), "event_id": f"{number}-{step}"}
                try:
                    reply = client.post("/v1/events", json={"events": [event]})
                    asked = client.post("/v1/recommend", json={"user_id": f"u{number}"})
                except httpx.TransportError:
                    return  # the server is gone
                if reply.status_code == 200:
                    acknowledged.append(event["event_id"])  # type: ignore[arg-type]
                if not {reply.status_code, asked.status_code} <= {200, 503}:
                    odd.append((reply.text, asked.text))
                if step > 20:
                    started.set()

    with running(bundle) as server, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(load, number) for number in range(4)]
        assert started.wait(60)
        assert server.stop(signal.SIGTERM) == 0
        for future in futures:
            future.result()
    assert not odd
    store = SqliteStore(tmp_path / "ring.events.sqlite")
    stored = {event.event_id for event in store.scan()}
    store.close()
    assert set(acknowledged) <= stored
    assert len(acknowledged) > 20


def test_a_port_in_use_is_one_sentence_and_nothing_is_loaded(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"port {port} of 127.0.0.1 cannot be used"):
            serve(bundle / "not even there", port=port)
    with running(bundle) as server, pytest.raises(MachineError, match="choose another --port"):
        serve(bundle, port=int(server.url.rpartition(":")[2]))


def test_wrong_starts_are_one_sentence(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can be reached from outside"):
        serve(bundle, host="0.0.0.0")
    with pytest.raises(ConfigError, match="can be reached from outside"):
        serve(bundle, host="some.host")
    with pytest.raises(ConfigError, match="state"):
        serve(bundle, state="redis://localhost")
    with pytest.raises(ConfigError, match="not a port"):
        serve(bundle, port=70000)
    with pytest.raises(InputError, match="does not exist"):
        serve(tmp_path / "nothing", port=0)
    with pytest.raises(ConfigError, match="unknown event store"):
        serve(bundle, port=0, store="postgres://localhost/x")
    (tmp_path / "config.toml").write_text("read_kays = ['x']")
    with pytest.raises(ConfigError, match="read_keys"):
        serve(bundle, port=0, config=tmp_path / "config.toml")


def test_an_outside_address_with_keys_is_served(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[object] = []

    async def run(*arguments: object) -> None:
        reached.append(arguments[2])

    monkeypatch.setattr("leanrec.serving.server._run", run)
    serve(bundle, host="0.0.0.0", port=0, config=ServingConfig(read_keys=("secret",)))
    assert len(reached) == 1


def test_the_store_lies_beside_the_histories(bundle: Path, tmp_path: Path) -> None:
    assert default_store(bundle) == f"sqlite:///{bundle.parent}/ring.events.sqlite"
    shutil.copytree(bundle, tmp_path / "run" / "bundle")
    for given in (tmp_path / "run", tmp_path / "run" / "bundle"):
        assert default_store(given) == f"sqlite:///{tmp_path}/run/events.sqlite"
