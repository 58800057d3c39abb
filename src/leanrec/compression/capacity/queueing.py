"""Waiting: how long an answer takes when questions come at random to so many servers, and how many servers it needs.

Erlang's C gives the probability of waiting in M/M/c. Allen & Cunneen's approximation (Allen 1990) scales the mean wait
by the variability of arrivals and services, (ca^2 + cs^2) / 2, and is exact for M/M/c and, on the mean, for M/G/1
(Pollaczek & Khinchine). The time of those that wait is taken as exponential, as it is in M/M/c.
"""

from __future__ import annotations

import math

from leanrec.core.errors import InputError

__all__ = ["erlang_c", "mean_wait", "response_percentile", "servers_needed"]

_BISECTIONS = 60
_MOST_SERVERS = 100_000


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


def response_percentile(
    rate: float, service: float, servers: int, *, share: float = 0.99, slow: float | None = None, ca2: float = 1.0,
    cs2: float = 1.0,
) -> float:  # fmt: skip
    """Seconds within which `share` of the answers come.

    slow: the same percentile of the service alone, by default the service itself. An answer comes within t when its
    service ends by then; those that wait do so for an exponential time.
    """
    slow = service if slow is None else slow
    wait = mean_wait(rate, service, servers, ca2=ca2, cs2=cs2)
    if math.isinf(wait):
        return math.inf
    waits = erlang_c(servers, rate * service)
    if waits <= 1 - share:
        return slow
    # P(wait > t) = waits * exp(-t * waits / wait); the rest of the time is the service, of which the mean is added to
    # a long wait, and the percentile where hardly anybody waits
    queued = wait / waits * math.log(waits / (1 - share))
    return max(slow, queued + service)


def servers_needed(
    rate: float, service: float, limit: float, *, share: float = 0.99, slow: float | None = None, ca2: float = 1.0,
    cs2: float = 1.0,
) -> int:  # fmt: skip
    """The fewest servers with which `share` of the answers come within `limit` seconds; InputError where none do."""
    slow = service if slow is None else slow
    if slow > limit:
        raise InputError(
            f"one answer alone takes {1e3 * slow:.3g} ms, more than {1e3 * limit:.3g} ms: more cores do not help, a "
            "leaner bundle may"
        )
    servers = max(1, math.floor(rate * service) + 1)
    while servers < _MOST_SERVERS:
        if response_percentile(rate, service, servers, share=share, slow=slow, ca2=ca2, cs2=cs2) <= limit:
            return servers
        servers += 1
    raise InputError(f"{rate:,.0f} answers a second need more than {_MOST_SERVERS:,} cores of this kind")
