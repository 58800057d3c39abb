"""Two ways to ask a server: a real process on a free port, and the application alone in this process."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from granian.rsgi import ProtocolClosed

from leanrec.events import EventStore
from leanrec.runtime.recommender import Recommender
from leanrec.serving.app import App
from leanrec.serving.config import ServingConfig
from leanrec.serving.handlers import Service
from leanrec.serving.server import make_service

START_SECONDS = 120  # the first start on a machine compiles


@dataclass
class Process:
    """A serving process; `said` is what it wrote to standard error."""

    process: subprocess.Popen[str]
    url: str
    said: list[str]

    def stop(self, signal_number: int) -> int:
        self.process.send_signal(signal_number)
        return self.process.wait(30)


@contextmanager
def running(bundle: Path, *arguments: str) -> Iterator[Process]:
    """A real server; killed at the end if it still runs."""
    command = [sys.executable, str(Path(__file__).with_name("server_process.py")), str(bundle), *arguments]
    said: list[str] = []
    address: list[str] = []
    ready = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:

        def listen() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"^serving .* at (http://\S+) ", line):
                    address.append(found[1])
                    ready.set()
            ready.set()

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            assert ready.wait(START_SECONDS), "the server did not start"
            assert address, "".join(said)
            yield Process(process, address[0], said)
        finally:
            process.kill()
            process.wait()
            listener.join()


@dataclass
class Reply:
    """What the application answered; status 0: nothing."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.content)


@dataclass
class Protocol:
    """The side of the web server: gives the body in chunks (None: the client left), keeps the response."""

    chunks: Sequence[bytes | None]
    delay: float = 0.0
    reply: Reply | None = None

    async def __aiter__(self) -> Any:
        for chunk in self.chunks:
            await asyncio.sleep(self.delay)
            if chunk is None:
                raise ProtocolClosed
            yield chunk

    async def __call__(self) -> bytes:
        return b"".join([chunk async for chunk in self])

    def response_bytes(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        assert self.reply is None, "one response per request"
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in headers)
        self.reply = Reply(status, dict(headers), content)


@dataclass
class Scope:
    method: str
    path: str
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Local:
    """The application on an event loop in a thread of its own."""

    def __init__(self, recommender: Recommender, store: EventStore, config: ServingConfig | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

        async def build() -> Service:
            return make_service(recommender, store, config or ServingConfig())

        self.service = asyncio.run_coroutine_threadsafe(build(), self.loop).result()
        self.service.status = "ok"
        self.app = App(self.service)

    def start(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Any:
        """A future of the reply. body: bytes, a list of chunks, or something to encode."""
        if not isinstance(body, list | bytes):
            body = b"" if body is None else msgspec.json.encode(body)
        protocol = Protocol(body if isinstance(body, list) else [body], **options)
        path, _, query = path.partition("?")

        async def go() -> Reply:
            await self.app.__rsgi__(Scope(method, path, query, headers or {}), protocol)
            return protocol.reply or Reply(0, {}, b"")

        return asyncio.run_coroutine_threadsafe(go(), self.loop)

    def ask(self, *arguments: Any, **options: Any) -> Reply:
        return self.start(*arguments, **options).result(60)

    def close(self) -> None:
        self.service.batcher.close()

        async def finish() -> None:
            """Answers that the engine has given may still be on their way to whoever waits."""
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=2)

        asyncio.run_coroutine_threadsafe(finish(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
