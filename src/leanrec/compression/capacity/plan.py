"""How many cores so many questions a second need, from a service model and the formulas of queues."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np

from leanrec.compression.capacity.measure import Workers
from leanrec.compression.capacity.model import Point, ServiceModel, fit, held_out_error, scaling, speedup
from leanrec.compression.capacity.queueing import Services, fitted, response_percentile, servers_needed
from leanrec.compression.measure import busy
from leanrec.core.console import format_table, step
from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged

__all__ = ["Capacity", "Need", "measure_capacity"]

_LOADS = (0.2, 0.4, 0.6, 0.8)
_RATES = (0.5, 0.8, 0.95)
_BEYOND = 10


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """cores: processes of one core each that answer `rate` questions a second, 99 of 100 within `p99_ms`."""

    rate: float
    p99_ms: float
    cores: int
    expected_p99_ms: float


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted service model of a bundle on this machine, and how far it is from what was measured.

    rows, tokens: the catalogue, and the events of a usual history. served: one process alone. together: processes at
    once -> answers a second of all. queues: load -> (p99 measured, p99 foreseen) in ms of one process to which
    questions come at random, each foreseen by a model that was fitted to the other loads.
    """

    model: ServiceModel
    rows: int
    tokens: float
    served: Services
    together: dict[int, float]
    queues: dict[float, tuple[float, float]]
    points: list[Point]
    cores: int
    load: float

    def services(self, cores: int, *, rows: int | None = None, tokens: float | None = None) -> Services:
        """Those of one core when so many cores of a machine answer at once."""
        wanted = self.model.seconds(1, tokens or self.tokens, rows or self.rows)
        scale = wanted / self.model.seconds(1, self.tokens, self.rows)
        at_once = min(cores, self.cores)
        return self.served.scaled(scale * at_once / speedup(at_once, self.model.serial, self.model.crosstalk))

    def need(self, rate: float, p99_ms: float, *, rows: int | None = None, tokens: float | None = None) -> Need:
        """InputError where one answer alone takes longer than that, and where what was measured says nothing about
        such a catalogue or such histories."""
        self.beyond(rows, tokens)
        cores, wanted = 1, 0
        while cores != wanted:  # more cores at once make each a little slower
            wanted = cores
            services = self.services(cores, rows=rows, tokens=tokens)
            cores = max(cores, servers_needed(rate, services, p99_ms / 1e3))
        expected = response_percentile(rate, services, cores)
        return Need(rate=rate, p99_ms=p99_ms, cores=cores, expected_p99_ms=1e3 * expected)

    def beyond(self, rows: int | None = None, tokens: float | None = None) -> list[str]:
        """What of a question lies beyond what was measured, for a person; InputError where it lies ten times beyond, or
        at all when no influence of it could be measured."""
        m = self.model
        asked = (
            ("--items", rows, [one.rows for one in self.points], m.row + m.answer_row),
            ("--history", tokens, [one.tokens / one.batch for one in self.points], m.token),
        )
        said = []
        for option, value, measured, weight in asked:
            most = max(measured, default=0.0)
            if value is None or value <= most:
                continue
            if weight == 0 or value > _BEYOND * most:
                why = f"that is over {_BEYOND} times as many"
                if weight == 0:
                    why = "their influence was too small to measure"
                raise InputError(
                    f"{option} {value:,.0f}: up to {most:,.0f} were measured, and {why}; "
                    f"measure a bundle that is nearer to it (leanrec bench OTHER --capacity)"
                )
            said.append(f"{option} {value:,.0f} lies beyond what was measured (up to {most:,.0f}): an estimate")
        return said

    def __str__(self) -> str:
        m = self.model
        formula = (
            "microseconds of a batch of B answers with T events of N rows: "
            f"{1e6 * m.call:.3g} + {1e6 * m.answer:.3g} B + {1e6 * m.token:.3g} T + {1e6 * m.row:.3g} N "
            f"+ {1e6 * m.answer_row:.3g} B N"
        )
        error = (
            f"error on held-out points: median {100 * m.error:.1f} %, largest {100 * m.worst:.0f} %, "
            f"of {len(self.points)} measured"
        )
        rates = [[str(count), f"{rate:,.0f}", f"{rate / self.together[1]:.2f}",
                  f"{speedup(count, m.serial, m.crosstalk):.2f}"] for count, rate in self.together.items()]  # fmt: skip
        dispersion = (
            f"waiting as of services with a dispersion of {self.served.dispersion:.2g} (alone {self.served.cs2:.2g})"
        )
        queues = [[f"{100 * load:.0f} %", f"{one:.3g}", f"{other:.3g}"] for load, (one, other) in self.queues.items()]
        slower = [f"{count} cores at once answered less than one: the machine is busy, or the answers wait for memory"
                  for count, rate in self.together.items() if rate < self.together[1]]  # fmt: skip
        return "\n".join([
            formula, error, "",
            format_table(["cores at once", "answers/s", "times one", "fitted"], rates), "",
            format_table(["load of one core", "p99 ms measured", "foreseen from the others"], queues), dispersion,
            *slower, *busy([self.load / self.cores]),
        ])  # fmt: skip

    def table(self, p99_ms: float | None = None) -> list[Need]:
        """What some rates need, at a p99 of five services when none is said."""
        limit = p99_ms or 1e3 * 5 * self.served.percentile()
        top = self.together[max(self.together)]
        return [self.need(share * scale * top, limit) for scale in (1, 10) for share in _RATES]


def measure_capacity(
    bundle: Path, histories: Jagged, k: int = 10, *, rows: int, seconds: float = 2.0, cores: int | None = None
) -> Capacity:
    """Measure and fit; takes about `seconds` times (40 + cores), and the grid."""
    cores = cores or len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    with Workers(bundle, histories, k, seconds, cores) as workers:
        with step("batches, histories and catalogues"):
            points = workers.grid()
        with step("answers one by one, on one core and on more at once"):
            alone = workers.rates(1)[0]
            alone = msgspec.structs.replace(alone, after=workers.pauses())
            together = {1: 1 / alone.mean}
            for count in sorted({2, cores // 2, cores} - {0, 1}):
                if count <= cores:
                    together[count] = sum(1 / one.mean for one in workers.rates(count))
        with step("questions that come at random"):
            measured = {share: workers.queue(share * together[1]) for share in _LOADS}
    queues = {}
    for share, some in measured.items():
        model_of_others = fitted(alone, [one for other in _LOADS if other != share for one in measured[other]])
        p99s = [[one.p99 for one in some], [one.foreseen(model_of_others) for one in some]]
        queues[share] = (1e3 * float(np.median(p99s[0])), 1e3 * float(np.median(p99s[1])))
    alone = fitted(alone, [one for some in measured.values() for one in some])
    error, worst = held_out_error(points)
    serial, crosstalk = scaling([(count, rate / together[1]) for count, rate in together.items() if count > 1])
    model = msgspec.structs.replace(fit(points), serial=serial, crosstalk=crosstalk, error=error, worst=worst)
    return Capacity(
        model=model, rows=rows, tokens=float(np.median(histories.lengths)), served=alone, together=together,
        queues=queues, points=points, cores=cores, load=load,
    )  # fmt: skip
