"""Runs, bundles, evaluations and audits as one page, and the same as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from leanrec.core.config import Config
from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.core.files import atomic_write
from leanrec.evaluation.report import Material, RunFacts, render
from leanrec.jobs.evaluate import EvaluateJob, evaluate_models
from leanrec.runtime.bundle import resolve_bundle
from leanrec.runtime.recommender import Recommender

__all__ = ["ReportJob", "write_report"]


class ReportJob(Config, frozen=True, kw_only=True):
    """What `leanrec report` is told."""

    sources: tuple[str, ...]
    """Run folders, bundles, or files of what `leanrec evaluate --json` and `leanrec audit --json` print."""
    out: str
    data: str | None = None
    """A prepared data set to evaluate the runs and bundles on."""
    k: tuple[int, ...] = (10,)
    slices: tuple[str, ...] = ()
    title: str = "leanrec report"


def write_report(job: ReportJob) -> Material:
    """Gather, evaluate where data is given, write the page; what it is made of."""
    if Path(job.out).is_dir():
        raise InputError(f"{job.out} is a folder: name the page to write, such as report.html")
    evaluations: dict[str, dict[str, Any]] = {}
    audits: dict[str, dict[str, Any]] = {}
    runs, folders = [], []
    for source in job.sources:
        path = Path(source)
        if path.is_dir():
            runs.append(_facts(path))
            folders.append(source)
            continue
        found = _last_object(path)
        (audits if "findings" in found else evaluations)[path.name] = found
    if job.data is not None and folders:
        models = EvaluateJob(models=tuple(folders), data=job.data, k=job.k, details=True, slices=job.slices)
        found = msgspec.to_builtins(evaluate_models(models).to_dict(), enc_hook=_number)
        evaluations[Path(job.data).name] = found
    material = Material(evaluations=evaluations, runs=runs, audits=audits)
    atomic_write(Path(job.out), render(material, job.title).encode())
    return material


def _facts(path: Path) -> RunFacts:
    recommender = Recommender.load(path)
    folder = resolve_bundle(path)
    run = path if (path / "run.json").exists() else folder.parent
    return RunFacts(
        name=path.name or str(path),
        id=recommender.id,
        card=recommender.card,
        lineage=recommender.lineage,
        certificate=None if recommender.certificate is None else dict(recommender.certificate),
        curves=_learning_curves(run / "tensorboard"),
    )


def _learning_curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Figure -> (step, value), from the event files of a run; nothing where there are none."""
    if not folder.is_dir():
        return {}
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ModuleNotFoundError:
        say("no learning curves: run  pip install 'leanrec[train]'  to read them")
        return {}
    events: Any = EventAccumulator(str(folder), size_guidance={"scalars": 2000})
    events.Reload()
    return {
        name: [(float(one.step), float(one.value)) for one in events.Scalars(name)] for name in events.Tags()["scalars"]
    }


def _last_object(path: Path) -> dict[str, Any]:
    """The JSON object on the last line (or of the whole file)."""
    try:
        text = path.read_text()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no run folder, bundle or file of  leanrec evaluate --json") from error
    for part in (text.strip().splitlines()[-1:] or [""])[0], text:
        try:
            found = msgspec.json.decode(part)
        except msgspec.DecodeError:
            continue
        if (isinstance(found, dict) and _is_evaluation(found)) or (isinstance(found, dict) and _is_audit(found)):
            return found
    raise InputError(
        f"{path} holds neither an evaluation nor an audit: write one with  leanrec evaluate ... --json > {path.name}"
    )


def _is_evaluation(found: dict[str, Any]) -> bool:
    rows = found.get("results")
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(r, dict) and {"model", "metrics"} <= set(r) for r in rows)
    )


def _is_audit(found: dict[str, Any]) -> bool:
    return {"findings", "notes", "checks"} <= set(found)


def _number(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
