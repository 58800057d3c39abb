"""Where a search finds out about plans: cheaply in this process, then in full in a process of their own.

Whatever is found out is noted in the journal, by plan or by bundle. A plan is applied at most once in a search while
its bundle or a shared beginning of it is at hand.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.compression.base import Plan, StepRecord, Work
from leanrec.compression.journal import Journal
from leanrec.compression.measure import Measurement, measure, time_answers
from leanrec.compression.promise import alpha_of_look
from leanrec.compression.quality import Quality, judge
from leanrec.compression.space import canonical, plan_key
from leanrec.core.console import muted, say
from leanrec.core.errors import LeanrecError
from leanrec.data.dataset import Dataset
from leanrec.evaluation.certificate import Certificate, certify_loss
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.metrics import parse_metric
from leanrec.kernels.blas import blas_threads
from leanrec.runtime.bundle import bundle_id
from leanrec.runtime.packing import pack
from leanrec.runtime.recommender import Recommender

__all__ = ["ALL_USERS", "FIRST_USERS", "Loss", "Probe", "Workbench"]

FIRST_USERS, ALL_USERS = 512, 16_384
"""Users that tune: of whom every plan is asked, and of whom those that are measured are."""
_KEPT = 6
_ASKED = 256


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """Share of the metric lost on some users that tune, and the certificate that as many others might bring."""

    value: float
    users: int
    certificate: Certificate

    def needed(self, bound: float) -> float:
        """About how many users would certify a loss of at most `bound`; infinite where none would."""
        if self.certificate.holds(bound):
            return 0
        return self.certificate.users_needed(bound) or math.inf


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What is cheap to know of a plan. kept: its steps that were applied. size, touched: bytes of the bundle, and those
    that answers read. agreement: share of the original's answers that it also gives. p50_ms, core_ms: of an answer, in
    this process under the workbench's load, by the clock and by the processor. seconds: that applying it took. error:
    why it could not be.
    """

    kept: tuple[str | dict[str, Any], ...] = ()
    id: str = ""
    records: list[StepRecord] = msgspec.field(default_factory=list)
    lossless: bool = False
    size: int = 0
    touched: int = 0
    agreement: float = 0.0
    p50_ms: float = 0.0
    core_ms: float = 0.0
    seconds: float = 0.0
    error: str = ""


class Turns(msgspec.Struct, frozen=True, kw_only=True):
    """Two plans measured right after each other."""

    before: Measurement
    after: Measurement


@dataclass(kw_only=True)
class Workbench:
    """place: the original bundle; folder: where bundles of plans are kept meanwhile. concurrency, again: the
    load under which all is measured. seconds: of a measurement."""

    model: Recommender
    place: Path
    data: Dataset
    metric: str
    work: Work
    journal: Journal
    folder: Path
    concurrency: int = 1
    again: float = 0.0
    seconds: float = 2.0
    alpha: float = 0.05
    _applied: OrderedDict[str, tuple[Recommender, list[StepRecord]]] = field(default_factory=OrderedDict)
    _before: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)
    _lists_BK: npt.NDArray[np.int32] | None = None

    @property
    def k(self) -> int:
        return parse_metric(self.metric).k

    def probe(self, plan: Plan) -> Probe:
        """A plan that cannot be applied has an `error`; only an interruption ends the search."""
        found = self.journal.ask({"probe": plan_key(plan)}, Probe, lambda: self._probe(plan))
        same = {"probe": plan_key(Plan(steps=found.kept))}
        if not found.error and len(found.kept) < len(plan.steps) and not self.journal.knows(same):
            applied = [record for record in found.records if record.applied]
            self.journal.note(same, msgspec.structs.replace(found, records=applied))
        return found

    def loss(self, plan: Plan, users: int) -> Loss:
        """On so many users that tune, or on all where there are fewer."""
        return self.journal.ask(
            {"loss": plan_key(plan), "users": users, "metric": self.metric, "alpha": self.alpha},
            Loss,
            lambda: self._loss(plan, users),
        )

    def measured(self, plan: Plan) -> Measurement:
        """In a process of its own, at the workbench's concurrency; once for each bundle."""
        question = {"measured": self.probe(plan).id, "k": self.k}
        return self.journal.ask(question, Measurement, lambda: self._measured(plan))

    def turns(self, before: Plan, after: Plan) -> Turns:
        """Both measured again, one right after the other, so that a minute in which the machine was slow is both's."""
        question = {"turns": [self.probe(one).id for one in (before, after)], "k": self.k}
        return self.journal.ask(
            question, Turns, lambda: Turns(before=self._measured(before), after=self._measured(after))
        )

    def judged(self, plan: Plan, alpha: float) -> Quality:
        """On the users that certify. Not for a search: every call is a look at them."""
        question = {"judged": self.probe(plan).id, "alpha": alpha, "metric": self.metric}
        with muted():
            return self.journal.ask(question, Quality, lambda: self._judged(plan, alpha))

    def looks(self) -> list[dict[str, Any]]:
        """Looks that were taken at the users that certify, on this machine or another: bundle, alpha, metric each."""
        return self.journal.questions("judged", {"bundle", "data"})

    def look_at(self, plan: Plan) -> float | None:
        """The alpha of the first look taken at a plan; None without one, or where less than that is to be spent."""
        for number, look in enumerate(self.looks()):
            known = look["judged"] == self.probe(plan).id and look["metric"] == self.metric
            if known and look["alpha"] <= alpha_of_look(self.alpha, number):
                return float(look["alpha"])
        return None

    def late(self, deadline: float | None) -> bool:
        """Whether the search has been at work for so many seconds; never for None."""
        return deadline is not None and self.journal.spent() >= deadline

    def known(self) -> list[Plan]:
        """Plans of which the journal already knows something, in the order in which they came."""
        found = self.journal.questions("probe")
        return [Plan(steps=tuple(msgspec.json.decode(one["probe"]))) for one in found]

    def apply(self, plan: Plan) -> tuple[Recommender, list[StepRecord]]:
        """The lean recommender and what each step did; the model itself for a plan without steps."""
        plan = canonical(plan)
        if not plan.steps:
            return self.model, []
        key = plan_key(plan)
        if key not in self._applied:
            before, records = self.apply(Plan(steps=plan.steps[:-1]))
            after, record = plan.build()[-1].apply(before, self.work)
            records = [*records, record]
            kept = [(entry, one) for entry, one in zip(plan.steps, records, strict=True) if one.applied]
            self._applied[plan_key(Plan(steps=tuple(entry for entry, _ in kept)))] = after, [one for _, one in kept]
            self._applied[key] = after, records
            while len(self._applied) > _KEPT:
                self._applied.popitem(last=False)
        self._applied.move_to_end(key)
        return self._applied[key]

    def bundle(self, plan: Plan) -> Path:
        """A bundle of the plan on disk, the one that was or will be measured.

        A step that times or learns may come out otherwise when it is applied once more, after the bundle was removed:
        then what is known of the plan is found out again, of the new bundle.
        """
        probe = self.probe(plan)
        if probe.id == self.model.id:
            return self.place
        if not (self.folder / probe.id).exists():
            lean = self.apply(plan)[0]  # with its histories, which are part of the memory of a process
            if lean.id != probe.id:
                self.journal.note({"probe": plan_key(plan)}, self._probe(plan))
            lean.save(self.folder / lean.id)
            return self.folder / lean.id
        return self.folder / probe.id

    def forget(self) -> None:
        """Remove the bundles that were kept meanwhile."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- finding out

    def _probe(self, plan: Plan) -> Probe:
        try:
            with muted(), blas_threads(1):
                return self._probe_applied(plan)
        except LeanrecError as error:
            return Probe(error=str(error))
        except Exception as error:
            say(f"{plan_key(plan)} failed: {type(error).__name__}: {error}")
            return Probe(error=f"{type(error).__name__}: {error}")

    def _probe_applied(self, plan: Plan) -> Probe:
        begun = time.perf_counter()
        lean, records = self.apply(plan)
        seconds = time.perf_counter() - begun
        if records and not records[-1].applied:  # the same recommender as without that step
            before = self.probe(Plan(steps=canonical(plan).steps[:-1]))
            return msgspec.structs.replace(before, records=records, seconds=seconds)
        steps = plan.build()
        files, recommender = pack(lean)
        sizes = [len(one) if isinstance(one, bytes) else sum(a.nbytes for a in one.values()) for one in files.values()]
        asked = self.work.histories.slice(0, min(_ASKED, len(self.work.histories)))
        if self._lists_BK is None:
            self._lists_BK = self.model.rank(asked, self.k)[0].items_BK
        lists_BK = lean.rank(asked, self.k)[0].items_BK
        times = time_answers(lean, asked, self.k, self.seconds / 8, self.concurrency, self.again)
        lean.kept = None
        applied = [record for record in records if record.applied]
        return Probe(
            kept=tuple(step.entry() for step, record in zip(steps, records, strict=True) if record.applied),
            id=bundle_id(files, recommender),
            records=records,
            lossless=all(record.lossless for record in applied),
            size=sum(sizes),
            touched=_touched(lean),
            agreement=_agreement(self._lists_BK, lists_BK),
            p50_ms=1e3 * float(np.median(times.latencies)),
            core_ms=1e3 * times.cpu / len(times.latencies),
            seconds=seconds,
        )

    def _loss(self, plan: Plan, users: int) -> Loss:
        with muted():
            before_B = self._values(self.model, users)
            probe = self.probe(plan)
            same = probe.lossless or probe.id == self.model.id
            after_B = before_B if same else self._values(self.apply(plan)[0], users)
        certificate = certify_loss(before_B, after_B, metric=self.metric, alpha=alpha_of_look(self.alpha, 0))
        return Loss(value=certificate.loss, users=certificate.users, certificate=certificate)

    def _values(self, model: Recommender, users: int) -> npt.NDArray[np.float64]:
        if model is self.model and users in self._before:
            return self._before[users]
        found = evaluate({"": model}, self.data, on="test", k=self.k, users="tune", limit=users)
        values_B: npt.NDArray[np.float64] = found[""].values[self.metric]
        if model is self.model:
            self._before[users] = values_B
        return values_B

    def _judged(self, plan: Plan, alpha: float) -> Quality:
        lean = Recommender.load(self.bundle(plan))
        return judge(self.model, lean, self.data, metric=self.metric, alpha=alpha)

    def _measured(self, plan: Plan) -> Measurement:
        return measure(
            self.bundle(plan), self.work.histories, self.k, seconds=self.seconds, concurrency=self.concurrency,
            again=self.again,
        )  # fmt: skip


def _agreement(one_BK: npt.NDArray[np.int32], other_BK: npt.NDArray[np.int32]) -> float:
    """Mean share of a row's answers that the other row holds too."""
    shared = [len(np.intersect1d(a[a >= 0], b[b >= 0])) / max(int((a >= 0).sum()), 1)
              for a, b in zip(one_BK, other_BK, strict=True)]  # fmt: skip
    return float(np.mean(shared))


def _touched(model: Recommender) -> int:
    """Bytes that answers read: what the index scans, and the encoder's own arrays."""
    index: Any = getattr(model.source, "index", None)
    parts: Mapping[str, Mapping[str, npt.NDArray[Any]]] = model.source.parts()
    if index is None:
        return sum(array.nbytes for part in parts.values() for array in part.values())
    return int(index.bytes_scanned) + sum(array.nbytes for array in parts.get("engine", {}).values())
