"""Counters and histograms in the Prometheus text format. Labels are routes and outcomes, never users or items."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence

__all__ = ["Counter", "Gauge", "Histogram", "Metrics"]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Counter:
    """Only rises; one value per combination of labels."""

    def __init__(self, name: str, help_: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.labels = name, help_, tuple(labels)
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        self._lock = threading.Lock()

    def add(self, *labels: str, by: float = 1.0) -> None:
        with self._lock:
            self._values[labels] = self._values.get(labels, 0.0) + by

    def lines(self) -> list[str]:
        with self._lock:
            values = sorted(self._values.items())
        head = _head(self.name, self.help, "counter")
        return [*head, *(f"{self.name}{_labels(self.labels, labels)} {value:.17g}" for labels, value in values)]


class Gauge:
    """A value read when it is asked for."""

    def __init__(self, name: str, help_: str, read: Callable[[], float], **labels: str) -> None:
        self.name, self.help, self._read, self._labels = name, help_, read, labels

    def lines(self) -> list[str]:
        labels = _labels(tuple(self._labels), tuple(self._labels.values()))
        return [*_head(self.name, self.help, "gauge"), f"{self.name}{labels} {self._read():.17g}"]


class Histogram:
    """Counts by upper bound, with sum and count; one series per combination of labels."""

    def __init__(self, name: str, help_: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.bounds, self.labels = name, help_, tuple(bounds), tuple(labels)
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def observe(self, value: float, *labels: str) -> None:
        with self._lock:
            counts, total = self._series.setdefault(labels, ([0] * (len(self.bounds) + 1), [0.0]))
            counts[bisect_left(self.bounds, value)] += 1
            total[0] += value

    def lines(self) -> list[str]:
        with self._lock:
            series = sorted((labels, list(counts), total[0]) for labels, (counts, total) in self._series.items())
        lines = _head(self.name, self.help, "histogram")
        for labels, counts, total in series:
            running = 0
            for bound, count in zip((*map(str, self.bounds), "+Inf"), counts, strict=True):
                running += count
                lines.append(f"{self.name}_bucket{_labels((*self.labels, 'le'), (*labels, bound))} {running}")
            lines.append(f"{self.name}_sum{_labels(self.labels, labels)} {total:.17g}")
            lines.append(f"{self.name}_count{_labels(self.labels, labels)} {running}")
        return lines


class Metrics:
    """All metrics of a server; any thread may count."""

    def __init__(self) -> None:
        self.requests = Counter("leanrec_requests_total", "Requests answered", ("route", "method", "status"))
        self.seconds = Histogram("leanrec_request_seconds", "Time to answer a request", SECONDS, ("route",))
        self.answers = Counter("leanrec_answers_total", "Questions answered", ("degraded",))
        self.refused = Counter("leanrec_refused_total", "Questions refused for want of time", ("reason",))
        self.batches = Histogram("leanrec_batch_size", "Questions the engine answered together", SIZES)
        self.engine = Histogram("leanrec_engine_seconds", "Time of the engine for a batch", SECONDS)
        self.events = Counter("leanrec_events_total", "Events received", ("outcome",))
        self.storage_errors = Counter("leanrec_storage_errors_total", "Failures of the event store")
        self.gauges: list[Gauge] = []

    def gauge(self, name: str, help_: str, read: Callable[[], float], **labels: str) -> None:
        self.gauges.append(Gauge(name, help_, read, **labels))

    def render(self) -> bytes:
        lines: list[str] = []
        everything: tuple[Counter | Gauge | Histogram, ...] = (
            self.requests, self.seconds, self.answers, self.refused, self.batches, self.engine,
            self.events, self.storage_errors, *self.gauges,
        )  # fmt: skip
        for metric in everything:
            lines += metric.lines()
        return ("\n".join(lines) + "\n").encode()


def _head(name: str, help_: str, kind: str) -> list[str]:
    return [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in values)
    return "{" + ",".join(f'{name}="{value}"' for name, value in zip(names, escaped, strict=True)) + "}"
