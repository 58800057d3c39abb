"""What a capacity model is fitted to, measured in processes of one thread each.

`python -m leanrec.compression.capacity.measure BUNDLE HISTORIES K SECONDS` loads, says `ready`, waits for a line and
then does what it says: `grid` measures batches over sizes, histories and catalogues, `rate` answers one by one,
`pauses` too, with nothing to do in between, and `queue R` answers what comes at random R times a second. One line of
JSON is the answer.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from leanrec.compression.capacity.model import Point
from leanrec.compression.capacity.queueing import Queue, Services, quantiles
from leanrec.compression.measure import time_answers
from leanrec.core.errors import LeanrecError, MachineError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.core.tensors import map_tensors, serialize
from leanrec.kernels.blas import limit_blas
from leanrec.runtime.base import Source
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["Workers"]

BATCHES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (1, 5, 20, 50, 100, 200)
SHARES = (0.25, 0.5, 1.0)
PAUSES = (0.0005, 0.002, 0.005, 0.012, 0.03)
"""Seconds: caches of a machine are cold after some of them, and a core that was idle sleeps deeper the longer."""
_MOST_PAUSES = 400
_STRETCHES, _ENOUGH = 3, 20
_LEAST_ROWS = 1000
_PATIENCE = 600


class Workers:
    """Processes that loaded the bundle and wait for what to measure; they measure at the same time."""

    def __init__(self, bundle: Path, histories: Jagged, k: int, seconds: float, count: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="leanrec-")
        asked = Path(self._folder.name) / "histories.safetensors"
        asked.write_bytes(serialize({"items": histories.values.astype(np.int32), "offsets": histories.offsets}))
        command = [sys.executable, "-m", __name__, str(bundle), str(asked), str(k), str(seconds)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]
        for one in self._processes:
            self._line(one)

    def grid(self) -> list[Point]:
        """By the first of them alone."""
        return msgspec.json.decode(self._do("grid", 1)[0], type=list[Point])

    def rates(self, together: int) -> list[Services]:
        """So many of them at once."""
        return [msgspec.json.decode(line, type=Services) for line in self._do("rate", together)]

    def pauses(self) -> list[tuple[float, list[float]]]:
        """`Services.after`, by the first of them alone."""
        return msgspec.json.decode(self._do("pauses", 1)[0], type=list[tuple[float, list[float]]])

    def queue(self, rate: float) -> list[Queue]:
        """Stretches in which questions come at random at this rate to the first of them."""
        return msgspec.json.decode(self._do(f"queue {rate}", 1)[0], type=list[Queue])

    def close(self) -> None:
        for one in self._processes:
            one.kill()
            one.communicate()
        self._folder.cleanup()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, what: str, count: int) -> list[str]:
        for one in self._processes[:count]:
            assert one.stdin is not None
            one.stdin.write(f"{what}\n")
            one.stdin.flush()
        return [self._line(one) for one in self._processes[:count]]

    def _line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self.close()
            raise MachineError("a process that measures capacity ended before it was done: see the lines above")
        return line


def _serve(bundle: str, asked: str, k: int, seconds: float) -> None:
    """What a worker does."""
    limit_blas(1)
    _one_thread()
    model = Recommender.load(bundle)
    tensors = map_tensors(asked)
    histories = Jagged(tensors["items"], tensors["offsets"])
    model.rank(histories.slice(0, 1), k)
    _answer("ready")
    for line in sys.stdin:
        what, _, number = line.strip().partition(" ")
        if what == "grid":
            _answer(_grid(model.source, histories, k, seconds))
        elif what == "rate":
            _answer(_rate(model, histories, k, seconds))
        elif what == "pauses":
            _answer([(pause, quantiles(_paused(model, histories, k, seconds, pause))) for pause in PAUSES])
        else:
            _answer(_queue(model, histories, k, seconds, float(number)))


def _one_thread() -> None:
    import numba

    numba.set_num_threads(1)


def _answer(found: Any) -> None:
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    sys.stdout.flush()


def _rate(model: Recommender, histories: Jagged, k: int, seconds: float) -> Services:
    return Services(warm=quantiles(time_answers(model, histories, k, seconds).latencies))


def _paused(model: Recommender, histories: Jagged, k: int, seconds: float, pause: float) -> list[float]:
    """Seconds of answers, each from when it should begin: so long after the one before had ended."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    while len(took) < 20 or (len(took) < _MOST_PAUSES and time.perf_counter() < end):
        due, query = time.perf_counter() + pause, len(took) % len(histories)
        _sleep_until(due)
        model.rank(histories.slice(query, query + 1), k)
        took.append(time.perf_counter() - due)
    return took


def _queue(model: Recommender, histories: Jagged, k: int, seconds: float, rate: float) -> list[Queue]:
    """First come, first served, one at a time; who comes does not wait for answers. Stretches are long enough for
    queues to build up and to empty.
    """
    found = []
    for stretch in range(_STRETCHES):
        rng = np.random.default_rng(stretch)
        arrivals = np.cumsum(rng.exponential(1 / rate, max(int(2 * rate * seconds), 100)))
        start, ended = time.perf_counter(), 0.0
        answers, waited = [], []
        for number, arrival in enumerate(arrivals.tolist()):
            _sleep_until(start + arrival)
            query, begun = number % len(histories), time.perf_counter() - start
            model.rank(histories.slice(query, query + 1), k)
            if arrival < ended:
                waited.append(time.perf_counter() - start - begun)
            ended = time.perf_counter() - start
            answers.append(ended - arrival)
        service = float(np.mean(waited)) if len(waited) >= _ENOUGH else None
        found.append(Queue(rate=rate, p99=float(np.quantile(answers, 0.99)), service=service))
    return found


def _sleep_until(due: float) -> None:
    while (early := due - time.perf_counter()) > 0:
        time.sleep(max(early - 2e-4, 0))


def _grid(source: Source, histories: Jagged, k: int, seconds: float) -> list[Point]:
    """Batches of every size with histories of 20, histories of every length one by one, both over catalogues."""
    points = []
    for one in _catalogues(source):
        cells = [(batch, 20) for batch in BATCHES] + [(1, length) for length in LENGTHS if length != 20]
        cells += [(8, length) for length in LENGTHS[::2]]
        for batch, length in cells:
            asked = _made_up(histories, batch, length, source.num_items)
            took = _median(one, Queries(asked, min(k, one.num_items)), seconds / 20)
            points.append(Point(batch=batch, tokens=float(batch * length), rows=one.num_items, seconds=took))
    return points


def _catalogues(source: Source) -> list[Source]:
    """The source over parts of its catalogue, where an index over fewer rows can be made."""
    if not isinstance(source, EmbeddingSource) or source.num_items < _LEAST_ROWS:
        return [source]
    found: list[Source] = []
    for share in SHARES[:-1]:
        rows = int(share * source.num_items)
        try:
            index = type(source.index).over(source.items.first(rows))
        except (LeanrecError, TypeError, AttributeError):
            break
        found.append(EmbeddingSource(source.name, source.engine, index))
    return [*found, source]


def _made_up(histories: Jagged, batch: int, length: int, items: int) -> Jagged:
    """Histories of one length with items as popular as in those that are really asked."""
    rng = np.random.default_rng(length)
    values = rng.choice(histories.values, batch * length).astype(np.int32)
    return Jagged.from_lengths(values, np.full(batch, length))


def _median(source: Source, queries: Queries, seconds: float) -> float:
    source.search(queries)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while len(took) < 5 or time.perf_counter() < end:
        begun = time.perf_counter()
        source.search(queries)
        took.append(time.perf_counter() - begun)
    return float(np.median(took))


def _main(arguments: Sequence[str]) -> None:
    bundle, asked, k, seconds = arguments
    _serve(bundle, asked, int(k), float(seconds))


if __name__ == "__main__":
    _main(sys.argv[1:])
