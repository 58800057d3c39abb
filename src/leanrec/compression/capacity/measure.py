"""What a capacity model is fitted to, measured in processes of one thread each.

`python -m leanrec.compression.capacity.measure BUNDLE HISTORIES K SECONDS` loads, says `ready`, waits for a line and
then does what it says: `grid` measures batches over sizes, histories and catalogues, `rate` answers one by one, and
`queue R` answers what comes at random R times a second. One line of JSON is the answer.
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
from leanrec.compression.measure import robust_p99, time_answers
from leanrec.core.errors import LeanrecError, MachineError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.core.tensors import map_tensors, serialize
from leanrec.kernels.blas import limit_blas
from leanrec.runtime.base import Source
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["Served", "Workers"]

BATCHES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (1, 5, 20, 50, 100, 200)
SHARES = (0.25, 0.5, 1.0)
_LEAST_ROWS = 1000
_PATIENCE = 600


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of answers one by one: mean, squared coefficient of variation, p99, and answers a second."""

    mean: float
    cs2: float
    p99: float
    rate: float


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

    def rates(self, together: int) -> list[Served]:
        """So many of them at once."""
        return [msgspec.json.decode(line, type=Served) for line in self._do("rate", together)]

    def queue(self, rate: float) -> float:
        """The p99 in seconds, waiting included, when questions come at random at this rate to the first of them."""
        return msgspec.json.decode(self._do(f"queue {rate}", 1)[0], type=float)

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
        else:
            _answer(_queue(model, histories, k, seconds, float(number)))


def _one_thread() -> None:
    import numba

    numba.set_num_threads(1)


def _answer(found: Any) -> None:
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    sys.stdout.flush()


def _rate(model: Recommender, histories: Jagged, k: int, seconds: float) -> Served:
    latencies = np.array(time_answers(model, histories, k, seconds).latencies)
    mean = float(latencies.mean())
    low, high = np.quantile(latencies, [0, 0.999])
    usual = latencies[(latencies >= low) & (latencies <= high)]  # a stall of the machine would be all the variance
    return Served(mean=mean, cs2=float(usual.var()) / mean**2, p99=robust_p99(latencies.tolist()), rate=1 / mean)


def _queue(model: Recommender, histories: Jagged, k: int, seconds: float, rate: float) -> float:
    """First come, first served, one at a time; who comes does not wait for answers."""
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(1 / rate, max(int(2 * rate * seconds), 100)))
    start, latencies = time.perf_counter(), []
    for number, arrival in enumerate(arrivals.tolist()):
        while (early := start + arrival - time.perf_counter()) > 0:
            time.sleep(max(early - 2e-4, 0))
        query = number % len(histories)
        model.rank(histories.slice(query, query + 1), k)
        latencies.append(time.perf_counter() - start - arrival)
    return robust_p99(latencies)


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
