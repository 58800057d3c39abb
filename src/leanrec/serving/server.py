"""Starting and stopping: one process, one event loop, one engine thread, one event writer."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from leanrec.core.config import build, load_toml
from leanrec.core.console import say
from leanrec.core.errors import ConfigError, MachineError
from leanrec.core.nouns import Request
from leanrec.core.smaps import own_memory
from leanrec.events import EventStore, open_store
from leanrec.runtime.bundle import history_folder, resolve_bundle
from leanrec.runtime.recommender import Recommender
from leanrec.serving.app import App
from leanrec.serving.batcher import Batcher
from leanrec.serving.config import ServingConfig
from leanrec.serving.handlers import Service
from leanrec.serving.metrics import Metrics
from leanrec.serving.state import UserState

__all__ = ["default_store", "make_service", "serve"]

_BACKLOG = 1024


def serve(
    bundle_path: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    store: str | None = None,
    state: str | None = None,
    config: ServingConfig | str | Path | None = None,
) -> None:
    """Serve a bundle or a run folder until SIGTERM or SIGINT; returns after the last answer and the last event.

    port: 0 takes a free one. store: URL of the event store, by default a file beside the bundle. state: must be left
    out, user state lives in this process. config: a ServingConfig, or a TOML file with one.
    """
    if state is not None:
        raise ConfigError(f"the state {state!r} cannot be used: user state lives in the serving process, leave it out")
    settings = config if isinstance(config, ServingConfig) else _read_config(config)
    if not _is_loopback(host) and not (settings.read_keys or settings.write_keys or settings.admin_keys):
        raise ConfigError(f"{host} can be reached from outside: set read_keys or write_keys in --config FILE first")
    # Bound before anything is loaded: a port in use is known at once, and early callers wait instead of failing.
    listener = _bind(host, port)
    with listener, _without_scipy(), _without_collector():
        recommender = Recommender.load(bundle_path)
        settings.answering(recommender.answering)  # refused before anything else is opened
        with closing(open_store(store or default_store(bundle_path))) as events:
            asyncio.run(_run(recommender, events, listener, settings))


def default_store(bundle_path: str | Path) -> str:
    """Beside the histories of known users: RUN/events.sqlite, or B.events.sqlite for a bare bundle B."""
    history = history_folder(resolve_bundle(bundle_path)).absolute()
    name = history.name.removesuffix("history") + "events.sqlite"
    return f"sqlite:///{history.with_name(name)}"


def _read_config(path: str | Path | None) -> ServingConfig:
    return ServingConfig() if path is None else build(ServingConfig, load_toml(path), where=str(path))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _without_scipy() -> Iterator[None]:
    """Numba takes BLAS from SciPy, when it is installed, as it loads its first function: 0.2 s and 30 MB for nothing.

    SciPy is no dependency, so no loop of ours may call BLAS through it.
    """
    if "scipy" in sys.modules:
        yield
        return
    sys.modules["scipy"] = None  # type: ignore[assignment]  # importing it is now an ImportError, which Numba expects
    try:
        yield
    finally:
        del sys.modules["scipy"]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Saves a tenth of a second of the start: `_run` turns it on, with all that was loaded out of its sight."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise MachineError(f"port {port} of {host} cannot be used ({error.strerror}): choose another --port") from error
    except OverflowError as error:
        listener.close()
        raise ConfigError(f"--port {port} is not a port: choose one from 1 to 65535") from error
    return listener


class _Listening(Server):
    """Granian on a socket that is already bound, without SO_REUSEPORT, so that no second server can share it."""

    def __init__(self, app: App, listener: socket.socket, config: ServingConfig) -> None:
        host, port = listener.getsockname()[:2]
        super().__init__(
            app, host, port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=int(config.idle_seconds * 1000), max_buffer_size=64 << 10),
            websockets=False,
            backlog=_BACKLOG,
            backpressure=config.max_connections,
            log_enabled=False,
        )  # fmt: skip
        self._holder = SocketHolder(listener.detach(), False, _BACKLOG)  # type: ignore[call-arg]

    def _init_shared_socket(self) -> None:
        self._ssp: Any = None
        self._shd: Any = self._holder


def make_service(recommender: Recommender, events: EventStore, config: ServingConfig) -> Service:
    """All that one serving process owns; inside the event loop that will use it. Its batcher is to be closed."""
    metrics = Metrics()
    state = UserState(
        recommender.items, recommender.histories, events,
        recent=config.recent_events, ignored=config.ignored_events, capacity=config.cached_users,
        on_error=metrics.storage_errors.add,
    )  # fmt: skip
    service = Service(recommender, state, Batcher(recommender, state, config, metrics), events, config, metrics)
    _add_gauges(service)
    return service


async def _run(recommender: Recommender, events: EventStore, listener: socket.socket, config: ServingConfig) -> None:
    host, port = listener.getsockname()[:2]
    service = make_service(recommender, events, config)
    server = _Listening(App(service), listener, config)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    serving = asyncio.create_task(server.serve())
    try:
        await service.batcher.call(partial(_warm_up, recommender))
        gc.freeze()
        gc.enable()
        service.status = "ok"
        memory, since = _memory_bytes() / 2**20, _process_seconds()
        say(
            f"serving {recommender.id[:12]} at http://{f'[{host}]' if ':' in host else host}:{port} "
            f"(memory {memory:.0f} MB, ready {since:.2f} s after the process started)"
        )
        if recommender.answering is not None:
            say(f"as the bundle recommends, unless --config says otherwise: {recommender.answering}")
        await asyncio.wait({serving, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        service.status = "stopping"
        loop.set_exception_handler(_ignore_late_ends)
        server.stop()  # type: ignore[no-untyped-call]
        with suppress(TimeoutError):
            await asyncio.wait_for(serving, config.stop_seconds)
        service.batcher.close()


def _ignore_late_ends(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Granian may end a future that the limit on stopping has already cancelled: no fault, and nothing to print."""
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)


def _warm_up(recommender: Recommender) -> None:
    """Compiled loops are loaded and pages touched before the first client comes."""
    known = [int(row) for row in (~recommender.items.erased).nonzero()[0][:2]]
    recommender.answer([Request(history=recommender.items.ids(known)), Request(history=[])])


def _add_gauges(service: Service) -> None:
    metrics = service.metrics
    metrics.gauge("leanrec_model_info", "The model being served", lambda: 1.0, model=service.recommender.id)
    metrics.gauge("leanrec_ready", "Whether it can answer", lambda: float(service.status == "ok"))
    metrics.gauge("leanrec_pending_questions", "Questions waiting", lambda: float(service.batcher.pending))
    metrics.gauge("process_resident_memory_bytes", "Proportional set size", lambda: float(_memory_bytes()))
    if service.config.answering(service.recommender.answering).kept_answers:
        found = "leanrec_kept_answers_found"
        metrics.gauge(found, "Questions answered by an answer that was kept", lambda: float(_found(service)))
    started = time.time() - _process_seconds()
    metrics.gauge("process_start_time_seconds", "Unix time of the start", lambda: started)


def _found(service: Service) -> int:
    kept = service.recommender.kept
    return 0 if kept is None else kept.found


def _memory_bytes() -> int:
    """Proportional set size of this process: shared pages count by share. 0 where the system does not say."""
    try:
        return own_memory().get("Pss", 0)
    except OSError:
        return 0


def _process_seconds() -> float:
    """Seconds since this process started; since it is measured from /proc, 0 where there is none."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    return uptime - started / os.sysconf("SC_CLK_TCK")
