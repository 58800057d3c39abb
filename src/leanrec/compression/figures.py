"""What a plan comes to in the terms of a budget, measured or foreseen, and what of the budget that breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from leanrec.compression.budget import Budget, Price
from leanrec.compression.measure import Measurement
from leanrec.core.machine import human

__all__ = ["Figures", "foreseen", "front", "measured_figures"]

T = TypeVar("T")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """loss: share of the metric lost on tuning users. cost: of a million answers. memory, size: bytes."""

    loss: float
    p50_ms: float
    p99_ms: float
    memory: float
    size: float
    cost: float

    def over(self, budget: Budget) -> dict[str, float]:
        """What breaks the budget, beside the loss: name -> how many times it is over."""
        found = {}
        for name in ("p99_ms", "memory", "size", "cost"):
            allowed, value = getattr(budget, name), getattr(self, name)
            if allowed is not None and value > allowed:
                found[name] = value / allowed
        return found

    def excess(self, budget: Budget) -> list[float]:
        """One number for each promise, above 0 where it is broken: the loss over its bound, then log ratios."""
        asked = [
            math.log(max(getattr(self, name), 1e-12) / allowed)
            for name in ("p99_ms", "memory", "size", "cost")
            if (allowed := getattr(budget, name)) is not None
        ]
        return [self.loss / budget.max_quality_loss - 1, *asked]

    def said(self, budget: Budget) -> str:
        """For a person: the figures that the budget speaks of."""
        parts = [f"{budget.metric} {0.0 - 100 * self.loss:+.2f} %"]
        parts += [] if budget.p99_ms is None else [f"p99 {self.p99_ms:.3g} ms"]
        parts += [] if budget.memory is None else [f"memory {human(self.memory)}"]
        parts += [] if budget.size is None else [f"bundle {human(self.size)}"]
        parts += [] if budget.cost is None else [f"cost {self.cost:.3g}"]
        return ", ".join(parts)


def measured_figures(measured: Measurement, loss: float, price: Price) -> Figures:
    """The figures of a bundle that was measured in a process of its own."""
    return Figures(
        loss=loss,
        p50_ms=measured.latency_p50_ms,
        p99_ms=measured.latency_p99_ms,
        memory=measured.pss,
        size=measured.bundle_bytes,
        cost=price.per_million(
            core_seconds=measured.core_seconds, seconds=1 / measured.served_per_second, memory=measured.pss
        ),
    )


def foreseen(
    base: Measurement, price: Price, *, loss: float, slower: float, more_work: float, touched: float, size: float
) -> Figures:
    """The figures that a plan may have, from those of the original and what is cheap to know of the plan.

    slower, more_work: times and processor's times of an answer over those of the original. touched: bytes of memory
    that answers read, less those of the original.
    """
    memory = max(base.pss + touched, 1.0)
    return Figures(
        loss=loss,
        p50_ms=base.latency_p50_ms * slower,
        p99_ms=base.latency_p99_ms * slower,
        memory=memory,
        size=size,
        cost=price.per_million(
            core_seconds=base.core_seconds * more_work, seconds=slower / base.served_per_second, memory=memory
        ),
    )


def front(rows: Sequence[tuple[T, Figures]]) -> list[T]:
    """Those that no other beats on everything: loss, p99, memory, size and cost; the cheapest first."""
    points = [(max(f.loss, 0.0), f.p99_ms, f.memory, f.size, f.cost) for _, f in rows]
    kept = [
        place
        for place, one in enumerate(points)
        if not any(
            all(a <= b for a, b in zip(other, one, strict=True)) and (other != one or earlier < place)
            for earlier, other in enumerate(points)
            if earlier != place
        )
    ]
    return [rows[place][0] for place in sorted(kept, key=lambda place: (points[place][4], place))]
