"""`leanrec bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from leanrec.cli.options import Flag, Json, Texts
from leanrec.cli.output import emit

__all__ = ["bench"]


def bench(
    bundle: Path,
    /,
    *,
    data: Path | None = None,
    capacity: Flag = False,
    metric: str = "ndcg@10",
    steps: Texts = (),
    concurrency: int = 1,
    price: Path | None = None,
    rate: float | None = None,
    p99: Annotated[str | None, Parameter(metavar="DURATION")] = None,
    items: int | None = None,
    history: int | None = None,
    json: Json = False,
) -> int:
    """Measure what every step of compression buys and costs on this machine, or how many questions a bundle carries.

    Args:
        bundle: A bundle or a run folder.
        data: The data set it was trained on; without it, histories are made up and losses are not known.
        capacity: Fit service times and waiting instead, and say how many cores a rate needs.
        metric: The metric whose loss is shown, on users that tune.
        steps: Which steps to measure; all without it.
        concurrency: How many ask at once.
        price: A TOML file with core_hour, gib_hour and currency; without it .04 and .005 USD.
        rate: With --capacity: answers a second.
        p99: With --capacity: 99 of 100 answers come within this, for instance 5ms.
        items: With --capacity: as if the catalogue had so many items.
        history: With --capacity: as if histories had so many events.
    """
    from leanrec.compression.budget import parse_budget
    from leanrec.core.errors import InputError
    from leanrec.jobs.bench import BenchJob, bench_capacity, bench_ladder

    asked = {"--rate": rate, "--p99": p99, "--items": items, "--history": history}
    if not capacity and (said := [name for name, value in asked.items() if value is not None]):
        raise InputError(f"{', '.join(said)} ask how much a machine carries: add --capacity")
    job = BenchJob(
        bundle=str(bundle),
        data=None if data is None else str(data),
        metric=metric,
        steps=steps,
        concurrency=concurrency,
        price=None if price is None else str(price),
        rate=rate,
        p99_ms=None if p99 is None else parse_budget({"p99": p99}).p99_ms,
        items=items,
        history=history,
    )
    found = bench_capacity(job) if capacity else bench_ladder(job)
    return emit(str(found), {"bundle": str(bundle), **msgspec.to_builtins(found)}, json)
