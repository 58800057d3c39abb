"""Apply a plan, judge what it cost on users nobody tuned on, and measure what it bought, before and after."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from leanrec.compression.base import Plan, StepRecord, Work, read_plan
from leanrec.compression.budget import Budget
from leanrec.compression.measure import Measurement, busy, measure
from leanrec.compression.quality import Quality, judge
from leanrec.core.console import format_table, step
from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.data.dataset import Dataset, Users
from leanrec.evaluation.metrics import parse_metric
from leanrec.runtime.bundle import history_folder, refuse_replacing, resolve_bundle
from leanrec.runtime.recommender import Recommender

__all__ = ["Report", "asked_histories", "compress", "compress_with_report", "opened", "refuse_overwriting"]

_ASKED = 2000
_KNOWN = 0.5
"""Of what users had, the share that the model has to know for a certificate to be about anything."""
_PROVEN = "every step that was applied gives the same answers by proof; the line above is what these users alone show"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan did: its steps, quality before and after, and both bundles measured on this machine."""

    before_id: str
    after_id: str
    steps: list[StepRecord]
    quality: Quality
    before: Measurement
    after: Measurement

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def __str__(self) -> str:
        rows = [
            [self.quality.metric, f"{self.quality.before:.4f}", f"{self.quality.after:.4f}"],
            *([name, _cell(self.before, field, form), _cell(self.after, field, form)] for name, field, form in _ROWS),
        ]
        steps = [f"{one.step}: {one.said}" for one in self.steps]
        doubt = busy([self.before.busy, self.after.busy])
        table = format_table(["", "before", "after"], rows)
        proven = [_PROVEN] if all(one.lossless for one in self.steps if one.applied) else []
        return "\n".join([table, *doubt, *steps, *self.quality.sentences(), *proven])


_ROWS = (
    ("latency p50, ms", "latency_p50_ms", ".3f"),
    ("latency p99, ms", "latency_p99_ms", ".3f"),
    ("answers per second", "answers_per_second", ",.0f"),
    ("first answer, s", "first_answer_seconds", ".2f"),
    ("bytes scanned per query", "bytes_scanned", ",d"),
    ("bundle, bytes", "bundle_bytes", ",d"),
    ("memory of the process (PSS), bytes", "pss", ",d"),
    ("of it private, bytes", "private", ",d"),
)


def _cell(measured: Measurement, field: str, form: str) -> str:
    value = getattr(measured, field)
    return "-" if value is None else format(value, form)


def compress(
    model: Recommender | str | Path,
    data: Dataset,
    *,
    plan: str | Path | Plan | None = None,
    budget: Budget | None = None,
    metric: str = "ndcg@10",
    out: str | Path | None = None,
    alpha: float = 0.05,
) -> Recommender:
    """The recommender made lean; its `certificate` says what that cost, and against which bundle.

    model: a Recommender, or the path of a bundle or run folder. data: the data set it was trained on; quality is
    judged on the test events of the users that only certify. plan: what to do, "int8" when nothing is said. budget:
    what has to hold instead; the cheapest plan that keeps it is searched, and a PromiseError raised where none does.
    metric: of a plan; a budget names its own. out: where to write the lean bundle, if anywhere.
    """
    if budget is None:
        return compress_with_report(model, data, plan=plan or "int8", metric=metric, out=out, alpha=alpha)[0]
    if plan is not None:
        raise InputError("a plan says what to do, a budget what has to hold: give one of them")
    from leanrec.compression.optimise import SearchOptions, optimise

    return optimise(model, data, budget, out=out, options=SearchOptions(alpha=alpha)).recommender


def compress_with_report(
    model: Recommender | str | Path,
    data: Dataset,
    *,
    plan: str | Path | Plan = "int8",
    metric: str = "ndcg@10",
    out: str | Path | None = None,
    alpha: float = 0.05,
) -> tuple[Recommender, Report]:
    """`compress`, and the report of it: before and after, measured each in a fresh process."""
    steps = read_plan(plan)
    k = _checked(metric)
    with tempfile.TemporaryDirectory(prefix="leanrec-") as scratch:
        before, place = opened(model, Path(scratch))
        refuse_overwriting(place, out)
        histories = asked_histories(before, data)
        lean, records = _apply(before, steps, Work(histories=histories, data=data))
        with step(f"judging {metric} before and after"):
            quality = judge(before, lean, data, metric=metric, alpha=alpha)
        lean.card = {**before.card, "compression": [msgspec.to_builtins(record) for record in records]}
        lean.lineage = {**before.lineage, "compressed_from": before.id, "plan": list(steps.steps)}
        lean.certificate = quality.to_manifest(before.id, data)
        lean_place = Path(out) if out is not None else Path(scratch) / "lean"
        lean.save(lean_place)
        with step("measuring both in fresh processes"):
            measured = [measure(one, histories, k) for one in (place, lean_place)]
    return lean, Report(
        before_id=before.id, after_id=lean.id, steps=records, quality=quality, before=measured[0], after=measured[1]
    )


def _apply(model: Recommender, plan: Plan, work: Work) -> tuple[Recommender, list[StepRecord]]:
    records = []
    lean = model
    for one in plan.build():
        lean, record = one.apply(lean, work)
        records.append(record)
    if lean is model:
        said = "; ".join(f"{record.step}: {record.said}" for record in records)
        raise InputError(f"nothing in the plan makes {model.source.name} smaller or faster: {said}")
    return lean, records


def _checked(metric: str) -> int:
    """The k of a per-user metric."""
    parsed = parse_metric(metric)
    if not parsed.is_per_user:
        raise InputError(f"{metric} is one number for all users: certify a per-user metric such as ndcg@10")
    return parsed.k


def opened(model: Recommender | str | Path, scratch: Path) -> tuple[Recommender, Path]:
    """The recommender and a bundle of it on disk."""
    if not isinstance(model, Recommender):
        return Recommender.load(model), resolve_bundle(model)
    place = scratch / "before"
    model.save(place)
    return model, place


def refuse_overwriting(place: Path, out: str | Path | None) -> None:
    """InputError where a lean bundle must not or cannot be written; None is nowhere."""
    if out is None:
        return
    if Path(out).resolve() == place.resolve() or history_folder(out).resolve() == history_folder(place).resolve():
        raise InputError(f"{out} is the bundle to compress, or shares its histories: choose another --out")
    refuse_replacing(Path(out))


def asked_histories(model: Recommender, data: Dataset, users: Users = "all") -> Jagged:
    """Some of what is asked for, in the model's rows: a fixed random choice of test users with known items."""
    known = data.cases("test", users).histories
    if model.items != data.items:
        rows = Jagged(model.items.rows(data.items.ids())[known.values], known.offsets)
        share = float(np.mean(rows.values >= 0)) if len(rows.values) else 1.0
        if share < _KNOWN:
            raise InputError(
                f"{data.name} is not what {model.source.name} was trained on, which knows {share:.0%} of what its test "
                f"users had: items are called {data.items.ids([0])[0]!r} here and {model.items.ids([0])[0]!r} there"
            )
        known = rows.where(rows.values >= 0)
    asking = np.flatnonzero(known.lengths)
    if not len(asking):
        who = "" if users == "all" else f" that {users}"
        raise InputError(
            f"{data.name} has no test users{who} with a history that the model knows: prepare it with another split"
        )
    chosen = np.random.default_rng(0).permutation(asking)[:_ASKED]
    return known.take(chosen)
