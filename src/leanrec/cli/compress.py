"""`leanrec compress`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from leanrec.cli.options import DataFolder, Flag, Json, Seconds, Texts
from leanrec.cli.output import emit

__all__ = ["compress"]

Share = Annotated[str | None, Parameter(metavar="SHARE")]
Milliseconds = Annotated[str | None, Parameter(metavar="DURATION")]
Bytes = Annotated[str | None, Parameter(metavar="BYTES")]


def compress(
    bundle: Path,
    /,
    *,
    data: DataFolder,
    out: Path,
    plan: str | None = None,
    max_quality_loss: Share = None,
    metric: str = "ndcg@10",
    p99: Milliseconds = None,
    memory: Bytes = None,
    size: Bytes = None,
    cost: Annotated[str | None, Parameter(metavar="MONEY")] = None,
    trials: int = 40,
    time: Seconds = 600.0,
    concurrency: int = 1,
    again: float = 0.0,
    price: Path | None = None,
    sampler: str = "tpe",
    steps: Texts = (),
    seed: int = 0,
    resume: Flag = False,
    json: Json = False,
) -> int:
    """Make a recommender leaner: by a plan, or by what has to hold of it, with what is certified about the loss.

    With a budget (any of --max-quality-loss, --p99, --memory, --size, --cost) plans are searched, measured on this
    machine in fresh processes, and the cheapest that keeps the promise is written; OUT.search/ holds the journal, the
    Pareto front and report.html. Exit code 4: no plan keeps the budget (the nearest are named), or too few users can
    certify it (how many would is said).

    Args:
        bundle: A bundle or a run folder.
        out: The bundle to write.
        plan: int8 (the default), or a TOML file with steps = [...].
        max_quality_loss: Share of the metric that may be lost, certified; 1% where the budget does not say.
        metric: The metric whose loss is certified, on users that nothing was tuned on.
        p99: 99 of 100 answers come within this, for instance 5ms.
        memory: Of the process that answers (PSS), for instance 200MB.
        size: Of the bundle on disk, for instance 16MB.
        cost: Of a million answers, in the currency of the price.
        trials: How many plans are looked at.
        time: Stop the search in time to end after about this much, in seconds without a unit.
        concurrency: How many ask at once when plans are measured.
        again: Share of the questions that were asked shortly before, word for word, when plans are measured.
        price: A TOML file with core_hour, gib_hour and currency; without it .04 and .005 USD.
        sampler: tpe, nsga2, cma-es, particle-swarm or random.
        steps: Which steps may be tried; all without it.
        seed: Everything random follows from it.
        resume: Go on with the interrupted search in OUT.search.
    """
    asked = {"max_quality_loss": max_quality_loss, "p99": p99, "memory": memory, "size": size, "cost": cost}
    if all(one is None for one in asked.values()):
        from leanrec.core.errors import InputError
        from leanrec.jobs.compress import CompressJob, compress_bundle

        if resume or steps or price is not None:
            raise InputError(
                "--resume, --steps and --price belong to a search: say what has to hold, for instance "
                "--max-quality-loss 1%"
            )
        job = CompressJob(bundle=str(bundle), data=str(data), out=str(out), plan=plan or "int8", metric=metric)
        report = compress_bundle(job)
        return emit(f"{report}\nwritten to {out}", {"bundle": str(out), **report.to_dict()}, json)
    if plan is not None:
        from leanrec.core.errors import InputError

        raise InputError("--plan says what to do, a budget what has to hold: give one of them")
    options: dict[str, Any] = {
        "trials": trials, "time_limit": time, "concurrency": concurrency, "again": again, "sampler": sampler,
        "price": None if price is None else str(price), "steps": steps, "seed": seed, "resume": resume,
    }  # fmt: skip
    return _search(bundle, data, out, {**asked, "metric": metric}, options, json)


def _search(
    bundle: Path, data: Path, out: Path, asked: dict[str, str | None], options: dict[str, Any], json: bool
) -> int:
    from leanrec.compression.budget import parse_budget
    from leanrec.jobs.compress import SearchJob, search_bundle

    job = SearchJob(bundle=str(bundle), data=str(data), out=str(out), budget=parse_budget(asked), **options)
    found = search_bundle(job)
    text = f"{found}\nwritten to {out}; {out}.search/report.html shows the front and the ladder"
    return emit(text, {"bundle": str(out), **found.to_dict()}, json)
