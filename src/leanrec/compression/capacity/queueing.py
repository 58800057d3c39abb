"""Waiting: how long an answer takes when questions come at random to so many servers, and how many servers it needs.

Erlang's C gives the probability of waiting in M/M/c. Allen & Cunneen's approximation (Allen 1990) scales the mean wait
by the variability of arrivals and services, (ca^2 + cs^2) / 2, and is exact for M/M/c and, on the mean, for M/G/1
(Pollaczek & Khinchine). How the waits of those that wait spread is Whitt's approximation (QNA, 1983, equation 50): less
than exponentially where services are alike.

Two things that real servers do are added. A server that had nothing to do is slower afterwards, its caches cold and
its core asleep: who finds it idle is served in another time (Welch 1964), which depends on how long the pause was.
And a machine has slow and fast moments, so that services one after the other are alike: in place of cs^2 stands the
dispersion of sums of many services (Fendick, Saksena & Whitt 1989), which is fitted to queues that were measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError

__all__ = ["Queue", "Services", "erlang_c", "fitted", "mean_wait", "quantiles", "response_percentile", "servers_needed"]

F64 = npt.NDArray[np.float64]
_BISECTIONS = 60
_MOST_SERVERS = 100_000
_POINTS = 200
_DISPERSIONS = np.concatenate([[0.0], np.geomspace(0.01, 30, 60)])
"""Tried on top of independent services."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of services, each list the quantiles of a distribution at even steps.

    warm: one right after the other. after: (pause in seconds, quantiles) of those that began after a pause of that
    length, from the moment at which they should have; by rising pause, may be empty. dispersion: n var(mean of n) /
    mean^2 of many services in their order; None where each is independent of those before: that is `cs2`.
    """

    warm: list[float]
    dispersion: float | None = None
    after: list[tuple[float, list[float]]] = []

    @property
    def mean(self) -> float:
        return float(np.mean(self.warm))

    @property
    def cs2(self) -> float:
        """The squared coefficient of variation."""
        return float(np.var(self.warm)) / self.mean**2

    def percentile(self, share: float = 0.99) -> float:
        """Of services one right after the other."""
        return float(np.quantile(self.warm, share))

    def scaled(self, by: float) -> Services:
        """All of them so many times as long."""
        after = [(pause, [by * one for one in some]) for pause, some in self.after]
        return Services(warm=[by * one for one in self.warm], dispersion=self.dispersion, after=after)

    def when_idle(self, rate: float) -> tuple[F64, F64]:
        """(seconds, their probabilities) of services that begin at once; a server is asked so often a second."""
        if not self.after:
            return np.array(self.warm), np.full(len(self.warm), 1 / len(self.warm))
        pauses = np.array([0.0, *(pause for pause, _ in self.after)])
        edges = (pauses[1:] + pauses[:-1]) / 2
        reached = np.concatenate([[1.0], np.exp(-rate * edges), [0.0]])  # pauses of random arrivals are exponential
        lists = [self.warm, *(some for _, some in self.after)]
        weights = [np.full(len(some), share / len(some)) for some, share in zip(lists, -np.diff(reached), strict=True)]
        return np.concatenate(lists), np.concatenate(weights)


def quantiles(seconds: Sequence[float]) -> list[float]:
    """What `Services` holds of measured seconds, without the longest thousandth: a stall of the machine."""
    found: list[float] = np.quantile(seconds, 0.999 * (np.arange(_POINTS) + 0.5) / _POINTS).tolist()
    return found


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """One server as it was measured: questions a second, p99 in seconds, and the mean seconds of those services
    meanwhile that had waited, as a machine is not always equally fast; None where hardly any had.
    """

    rate: float
    p99: float
    service: float | None = None

    def foreseen(self, services: Services) -> float:
        """The p99 that these services would have at that speed; infinite where more came than could be served."""
        return response_percentile(self.rate, services.scaled((self.service or services.mean) / services.mean), 1)


def fitted(services: Services, measured: Sequence[Queue]) -> Services:
    """With the dispersion of least relative error on measured queues, at least that of independent services.

    Queues to which more came than could be served say nothing of it.
    """

    def error(dispersion: float) -> float:
        one = msgspec.structs.replace(services, dispersion=dispersion)
        return sum(abs(math.log(queue.foreseen(one) / queue.p99)) for queue in steady)

    steady = [queue for queue in measured if queue.rate * (queue.service or services.mean) < 1]
    tried = services.cs2 + _DISPERSIONS
    return msgspec.structs.replace(services, dispersion=float(min(tried, key=error)))


def erlang_c(servers: int, load: float) -> float:
    """The probability that a question waits; load: arrivals times service seconds, below `servers`."""
    assert servers >= 1 and load >= 0
    if load >= servers:
        return 1.0
    blocked = 1.0  # Erlang's B by its recursion, which neither over- nor underflows
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait(rate: float, service: float, servers: int, *, ca2: float = 1.0, cs2: float = 1.0) -> float:
    """Seconds in the queue, on average; infinite where more comes than can be served.

    rate: questions a second. service: seconds of one. ca2, cs2: squared coefficients of variation of the times between
    arrivals and of services; 1 and 1 is M/M/c.
    """
    load = rate * service
    if load >= servers:
        return math.inf
    return erlang_c(servers, load) * service / (servers - load) * (ca2 + cs2) / 2


def response_percentile(rate: float, services: Services, servers: int, *, share: float = 0.99) -> float:
    """Seconds within which `share` of the answers come, of `rate` questions a second that come at random."""
    warm_Q, (idle_M, chance_M) = np.array(services.warm), services.when_idle(rate / servers)
    service = _mean_service(rate, services.mean, float(idle_M @ chance_M), servers)
    dispersion = services.cs2 if services.dispersion is None else services.dispersion
    wait = mean_wait(rate, service, servers, cs2=dispersion)
    if math.isinf(wait):
        return math.inf
    waits = erlang_c(servers, rate * service)
    delay = wait / waits if waits > 0 else 0.0
    scv = _delay_scv(rate * service / servers, dispersion)

    def later(seconds: float) -> float:
        queued = float(_beyond(seconds - warm_Q, delay, scv).mean())
        return waits * queued + (1 - waits) * float(chance_M @ (idle_M > seconds))

    low, high = 0.0, float(max(warm_Q.max(), idle_M.max()))
    while later(high) > 1 - share:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if later(middle) > 1 - share else (low, middle)
    return high


def _delay_scv(load: float, cs2: float) -> float:
    """The squared coefficient of variation of the waits of those that wait; 1 where services are exponential."""
    third = 3 * cs2 * (1 + cs2) if cs2 >= 1 else (2 * cs2 + 1) * (cs2 + 1)
    return 2 * load - 1 + 4 * (1 - load) * third / (3 * (cs2 + 1) ** 2)


def _beyond(seconds_Q: F64, mean: float, scv: float) -> F64:
    """The probability that a wait of this mean and variability is longer: a shifted exponential where it varies less
    than an exponential, else two of them with balanced means.
    """
    if mean <= 0:
        return np.where(seconds_Q < 0, 1.0, 0.0)
    later_Q = np.maximum(seconds_Q, 0.0)
    if scv <= 1:
        spread = mean * math.sqrt(max(scv, 1e-6))
        return np.where(seconds_Q < 0, 1.0, np.exp(-np.maximum(later_Q - (mean - spread), 0.0) / spread))
    short = (1 + math.sqrt((scv - 1) / (scv + 1))) / 2
    mixed_Q = short * np.exp(-2 * short * later_Q / mean) + (1 - short) * np.exp(-2 * (1 - short) * later_Q / mean)
    return np.where(seconds_Q < 0, 1.0, mixed_Q)


def _mean_service(rate: float, warm: float, idle: float, servers: int) -> float:
    """Of those that wait and those that begin at once: how many wait depends on it, and it on how many wait."""
    service = warm
    for _ in range(_BISECTIONS):
        waits = erlang_c(servers, min(rate * service, servers))
        service = (service + waits * warm + (1 - waits) * idle) / 2
    return service


def servers_needed(rate: float, services: Services, limit: float, *, share: float = 0.99) -> int:
    """The fewest servers with which `share` of the answers come within `limit` seconds; InputError where none do."""
    slow = services.percentile(share)
    if slow > limit:
        raise InputError(
            f"one answer alone takes {1e3 * slow:.3g} ms, more than {1e3 * limit:.3g} ms: more cores do not help, a "
            "leaner bundle may"
        )
    servers = max(1, math.floor(rate * services.mean) + 1)
    while servers < _MOST_SERVERS:
        found = response_percentile(rate, services, servers, share=share)
        if found <= limit:
            return servers
        if erlang_c(servers, rate * services.mean) < (1 - share) / 100:
            raise InputError(
                f"after a pause {share:.0%} of the answers take up to {1e3 * found:.3g} ms where nobody waits, more "
                f"than {1e3 * limit:.3g} ms: more cores, which pause more, do not help, a leaner bundle may"
            )
        servers += 1
    raise InputError(f"{rate:,.0f} answers a second need more than {_MOST_SERVERS:,} cores of this kind")
