"""How fast and how large a bundle is, in a process of its own: nothing is left over from training or a bigger model.

`python -m leanrec.compression.measure BUNDLE HISTORIES K SECONDS CONCURRENCY AGAIN STARTED` prints one JSON line;
`measure` runs that. With a concurrency of one, answers follow each other. With more, so many threads ask at once and
each waits for its answer, while one thread answers whatever has gathered, as a server does. That thread answers as the
bundle recommends (`runtime.answering`).
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from numba.core.event import install_recorder

from leanrec.compression.resident import resident
from leanrec.core.errors import MachineError
from leanrec.core.jagged import Jagged
from leanrec.core.tensors import map_tensors, serialize
from leanrec.kernels.blas import limit_blas
from leanrec.runtime.answering import Answering
from leanrec.runtime.bundle import resolve_bundle
from leanrec.runtime.recommender import Recommender

__all__ = ["Measurement", "Times", "busy", "measure", "robust_p99", "time_answers"]

_SINGLES = 4000
_WINDOWS, _WINDOW = 5, 300
_BATCH = 64
_WARM = 20
_LATELY = 1000
"""Of so many different questions, the newest, one comes again."""
_LIMIT_SECONDS = 600
_PATIENCE = 0.05
_BUSY = 1.25


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One bundle on this machine. Latencies are of whole answers (rows to rows); memory after all of it.

    latency_*: at `concurrency`, waiting included; p99 as `robust_p99` says. served_per_second, core_seconds: answers in
    a second at that concurrency, and the processor's time that one takes. answers_per_second: in batches of 64.
    rss, pss, private: bytes of the process, with shared pages in full, by share, or not at all. Mapped files count,
    those of the bundle as if no other process had it open (`resident`).
    """

    latency_p50_ms: float
    latency_p99_ms: float
    answers_per_second: float
    first_answer_seconds: float
    bytes_scanned: int | None
    bundle_bytes: int
    rss: int
    pss: int
    private: int
    torch_imported: bool
    cores: int
    load: float
    """Processes that wanted a core in the minute before: above `cores`, the times are other programs' too."""
    compiled: bool = False
    """Whether loops were compiled meanwhile, so that the compiler counts in the memory."""
    concurrency: int = 1
    served_per_second: float = 0.0
    core_seconds: float = 0.0

    @property
    def busy(self) -> float:
        """`load` for each core."""
        return self.load / self.cores


def busy(loads: Sequence[float]) -> list[str]:
    """What to say where other programs wanted so many of each core; nothing where they were few."""
    worst = max(loads, default=0.0)
    return [f"other programs were busy ({worst:.1f} for each core): measure again for times to trust"] * (worst > _BUSY)


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of each answer, of all together by the clock, and of the processor."""

    latencies: list[float]
    wall: float
    cpu: float


def measure(
    bundle: str | Path,
    histories: Jagged,
    k: int = 10,
    *,
    seconds: float = 2.0,
    concurrency: int = 1,
    again: float = 0.0,
) -> Measurement:
    """Measure a bundle on disk with non-empty histories in its rows; MachineError when the process fails.

    seconds: for answers at this concurrency, and as many more for batches. again: share of the questions that were
    asked shortly before. Where the first process had loops to compile, a second one is what counts.
    """
    assert len(histories), "something to ask"
    assert concurrency >= 1, "somebody asks"
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "histories.safetensors"
        asked.write_bytes(serialize({"items": histories.values.astype(np.int32), "offsets": histories.offsets}))
        numbers = [str(k), str(seconds), str(concurrency), str(again)]
        command = [str(bundle), str(asked), *numbers]
        found = _in_a_process(command)
        return _in_a_process(command) if found.compiled else found


def _in_a_process(arguments: Sequence[str]) -> Measurement:
    bundle = arguments[0]
    command = [sys.executable, "-m", "leanrec.compression.measure", *arguments, str(time.time())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"measuring {bundle} took more than {_LIMIT_SECONDS} s: let other programs end, then try again"
        ) from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise MachineError(f"measuring {bundle} in a fresh process failed: {last[0]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Measurement)


def _measure_here(
    bundle: str, asked: str, k: int, seconds: float, started: float, concurrency: int, again: float
) -> Measurement:
    limit_blas(1)  # as a server does
    load = os.getloadavg()[0]
    model = Recommender.load(bundle)
    tensors = map_tensors(asked)
    histories = Jagged(tensors["items"], tensors["offsets"])
    model.rank(histories.slice(0, 1), k)
    first = time.time() - started
    times = time_answers(model, histories, k, seconds, concurrency, again)
    kept, model.kept = model.kept, None
    rate = _time_batches(model, histories, k, seconds)
    memory = resident(bundle)
    del kept  # part of that memory
    return Measurement(
        latency_p50_ms=1e3 * float(np.quantile(times.latencies, 0.5)),
        latency_p99_ms=1e3 * robust_p99(times.latencies),
        answers_per_second=rate,
        first_answer_seconds=first,
        bytes_scanned=_bytes_scanned(model),
        bundle_bytes=sum(entry.stat().st_size for entry in os.scandir(resolve_bundle(bundle))),
        rss=memory.rss,
        pss=memory.pss,
        private=memory.private,
        torch_imported="torch" in sys.modules,
        cores=len(os.sched_getaffinity(0)),
        load=load,
        concurrency=concurrency,
        served_per_second=len(times.latencies) / times.wall,
        core_seconds=times.cpu / len(times.latencies),
    )


def robust_p99(latencies: Sequence[float]) -> float:
    """The median of the 99th percentiles of up to five stretches of at least 300 answers each.

    A single stall of the machine, which says nothing of the bundle, then counts in one stretch only.
    """
    windows = min(_WINDOWS, max(1, len(latencies) // _WINDOW))
    return float(np.median([np.quantile(part, 0.99) for part in np.array_split(np.asarray(latencies), windows)]))


def time_answers(
    model: Recommender, histories: Jagged, k: int, seconds: float, concurrency: int = 1, again: float = 0.0
) -> Times:
    """How long answers take when so many askers each wait for theirs, after a few that do not count.

    A thread of its own answers as the model recommends; what it keeps of answers stays in `model.kept`.
    """
    with ThreadPoolExecutor(1, "engine") as engine:
        return engine.submit(_time_answers, model, histories, k, seconds, concurrency, again).result()


def _time_answers(
    model: Recommender, histories: Jagged, k: int, seconds: float, concurrency: int, again: float
) -> Times:
    answering = model.answering or Answering()
    model.settle(answering)
    for query in range(min(_WARM, len(histories))):
        model.rank(histories.slice(query, query + 1), k)
    asked = _Asked(model, histories, again, _SINGLES * concurrency)
    begun, cpu = time.perf_counter(), time.process_time()
    if concurrency == 1:
        latencies = _time_singles(asked, k, seconds)
    else:
        latencies = _time_together(asked, k, seconds, concurrency, answering.max_batch)
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return Times(latencies=latencies, wall=wall, cpu=cpu)


class _Asked:
    """Questions one after the other: histories in turn, and a share of `again` of them from the newest.

    Answers that are kept are forgotten when the histories come round, for in truth those are other users.
    """

    def __init__(self, model: Recommender, histories: Jagged, again: float, count: int) -> None:
        self.model, self.histories = model, histories
        rng = np.random.default_rng(0)
        repeated = rng.random(count) < again
        different = np.maximum(np.cumsum(~repeated) - 1, 0)
        back = rng.integers(0, np.minimum(different, _LATELY - 1) + 1)
        self.numbers: npt.NDArray[np.int64] = np.where(repeated, different - back, different)
        self._round = 0
        if model.kept is not None:  # of an earlier measurement
            model.kept.forget()

    def __len__(self) -> int:
        return len(self.numbers)

    def answer(self, places: Sequence[int], k: int) -> None:
        """Answer these of the questions together."""
        numbers = self.numbers[places]
        latest = int(numbers.max()) // len(self.histories)
        if latest > self._round and self.model.kept is not None:
            self.model.kept.forget()
        self._round = max(latest, self._round)
        self.model.rank(self.histories.take(numbers % len(self.histories)), k)


def _time_together(asked: _Asked, k: int, limit: float, askers: int, most: int) -> list[float]:
    """Seconds of each answer; this thread answers, so many at most of those that wait at once."""
    waiting: queue.SimpleQueue[tuple[int, float, threading.Event]] = queue.SimpleQueue()
    end = time.perf_counter() + limit
    places = iter(range(len(asked)))  # dealt, not divided: who is held up is late with one question only

    def ask() -> None:
        answered = threading.Event()
        for place in places:
            if time.perf_counter() >= end:
                return
            answered.clear()
            waiting.put((place, time.perf_counter(), answered))
            answered.wait()

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(askers)]
    for thread in threads:
        thread.start()
    seconds: list[float] = []
    while any(thread.is_alive() for thread in threads):
        try:
            taken = [waiting.get(timeout=_PATIENCE)]
        except queue.Empty:
            continue
        while len(taken) < most and not waiting.empty():
            taken.append(waiting.get())
        asked.answer([place for place, _, _ in taken], k)
        now = time.perf_counter()
        for _, begun, answered in taken:
            seconds.append(now - begun)
            answered.set()
    return seconds


def _time_singles(asked: _Asked, k: int, limit: float) -> list[float]:
    """Seconds of each of many single answers."""
    seconds: list[float] = []
    end = time.perf_counter() + limit
    while len(seconds) < len(asked) and (now := time.perf_counter()) < end:
        asked.answer([len(seconds)], k)
        seconds.append(time.perf_counter() - now)
    return seconds


def _time_batches(model: Recommender, histories: Jagged, k: int, limit: float) -> float:
    """Answers per second in batches."""
    answered, start, begun = 0, 0, time.perf_counter()
    while time.perf_counter() - begun < limit:
        batch = histories.slice(start, min(start + _BATCH, len(histories)))
        model.rank(batch, k)
        answered += len(batch)
        start = start + _BATCH if start + _BATCH < len(histories) else 0
    return answered / (time.perf_counter() - begun)


def _bytes_scanned(model: Recommender) -> int | None:
    index: Any = getattr(model.source, "index", None)
    return None if index is None else int(index.bytes_scanned)


if __name__ == "__main__":
    _bundle, _asked, *_numbers = sys.argv[1:]
    _k, _seconds, _concurrency, _again, _started = map(float, _numbers)
    with install_recorder("numba:compile") as _compiled:
        found = _measure_here(_bundle, _asked, int(_k), _seconds, _started, int(_concurrency), _again)
    found = msgspec.structs.replace(found, compiled=bool(_compiled.buffer))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
