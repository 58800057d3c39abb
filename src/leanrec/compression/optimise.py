"""The cheapest plan that keeps a budget, with a certificate; or why there is none, with the nearest points.

1. The original and each step alone are measured; steps that lose on this machine leave the space of plans.
2. A sampler searches what is left, by what is cheap to know (`workbench.Probe`) and by users that tune.
3. The most promising plans meet more and more of these users, and the survivors are measured in fresh processes.
4. Steps that did not pay alone are tried once more on top of the plan that would be judged first.
5. Those that keep the budget are judged on users that nothing was tuned on, cheapest first, until one keeps the
   promise (`promise`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from leanrec.compression.base import Plan, Work
from leanrec.compression.budget import Budget, Price
from leanrec.compression.compress import asked_histories, opened, refuse_overwriting
from leanrec.compression.figures import Figures, front
from leanrec.compression.journal import Journal
from leanrec.compression.ladder import Rung, climb, rung, single_steps
from leanrec.compression.options import SearchOptions, circumstances
from leanrec.compression.outcome import Optimised, impossible, kept, undecided, write_outcome
from leanrec.compression.promise import Verdict, keep_promise
from leanrec.compression.search import Seeker
from leanrec.compression.space import PlanSpace, step_names
from leanrec.compression.workbench import ALL_USERS, Workbench
from leanrec.core.console import say, step
from leanrec.core.errors import InputError, PromiseError
from leanrec.data.dataset import Dataset
from leanrec.runtime.recommender import Recommender

__all__ = ["SearchOptions", "optimise"]

_ROOM = {"p99_ms": 1.05, "memory": 1.03}
"""What a later process may have more than the measured one: a plan has to keep the budget with this to spare."""


def optimise(
    model: Recommender | str | Path,
    data: Dataset,
    budget: Budget,
    *,
    out: str | Path | None = None,
    options: SearchOptions | None = None,
    price: Price | None = None,
    resume: bool = False,
    side: str | Path | None = None,
) -> Optimised:
    """Search, and write the bundle to `out`; PromiseError where no plan keeps the budget.

    side: the folder of the search, by default `out`.search, or a temporary one. With `resume`, what the journal in it
    already knows is not found out again, so that a stopped search goes on where it stood, with what was left of its
    time; a search with another budget may use the same folder.
    """
    options, price = options or SearchOptions(), price or Price()
    space = options.plan_space()
    with tempfile.TemporaryDirectory(prefix="leanrec-") as scratch:
        before, place = opened(model, Path(scratch))
        refuse_overwriting(place, out)
        folder = Path(side) if side is not None else Path(f"{out}.search") if out is not None else Path(scratch) / "s"
        histories = asked_histories(before, data, users="tune")
        if not len(data.cases("test", "certify")):
            raise InputError(f"{data.name} has no test users that certify: prepare it with another split")
        _open_folder(folder, resume)
        search = {"budget": msgspec.to_builtins(budget), "price": msgspec.to_builtins(price)}
        journal = Journal(folder / "journal.jsonl", circumstances(before, data, options), search)
        _say_what_differs(journal)
        try:
            bench = Workbench(
                model=before, place=place, data=data, metric=budget.metric, journal=journal,
                work=Work(histories=histories, data=data, seed=options.seed, seconds=options.learning),
                folder=folder / "bundles", concurrency=options.concurrency, again=options.again,
                seconds=options.measure_seconds, alpha=options.alpha,
            )  # fmt: skip
            found = _Search(bench, budget, price, options, space).run()
            if found.chosen is not None:
                found.lean = _finished(bench, found, options, out)
            write_outcome(folder, found)
        finally:
            journal.close()
        if side is None:
            bench.forget()
    if found.chosen is None:
        said = "; ".join([found.sentence, *found.doubts])
        raise PromiseError(said + f"; see {folder / 'report.html'}" * folder.exists())
    return found


def _open_folder(folder: Path, resume: bool) -> None:
    journal = folder / "journal.jsonl"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} exists and is not a folder: choose another --out, or remove it")
    if resume:
        if not journal.exists():
            raise InputError(f"{folder} holds no search to resume: leave --resume out")
        return
    if folder.exists() and any(folder.iterdir()) and not journal.exists():
        raise InputError(f"{folder} exists and is not the folder of a search: choose another --out, or remove it")
    if journal.exists():
        Journal(journal, {}).close()  # refuses while another search is at work in it
        say(f"replacing the search in {folder}")
        shutil.rmtree(folder)


def _say_what_differs(journal: Journal) -> None:
    differing = [f"{name} was {then} and is {now}" for name, (then, now) in journal.differing().items()]
    if differing:
        say(f"what {journal.path} knows is found out again, but for looks at users: {'; '.join(differing)}")


class _Search:
    """One run of the five parts above."""

    def __init__(
        self, bench: Workbench, budget: Budget, price: Price, options: SearchOptions, space: PlanSpace
    ) -> None:
        self.bench, self.budget, self.price, self.options, self.space = bench, budget, price, options, space
        self.cut: list[str] = []

    def run(self) -> Optimised:
        with step("measuring the original and each step alone"):
            singles = single_steps(self.bench, self.space, self.price, self._deadline(0.4))
        base = singles[0]
        assert base.measured is not None
        space = PlanSpace.of([name for one in singles[1:] if one.pays for name in step_names(Plan(steps=one.plan))])
        seeker = Seeker(
            bench=self.bench, budget=self.budget, price=self.price, base=base.measured, deadline=self._deadline(0.6)
        )
        tried, known = len(singles) - 1, self.bench.known()
        if tried < len(self.space.steps):
            self.cut.append(f"when {tried} of {len(self.space.steps)} steps had been tried alone")
        with step(f"searching plans of {', '.join(space.steps) or 'nothing'} for {self.budget}"):
            plans = seeker.search(
                space, trials=self.options.trials, sampler=self.options.sampler, seed=self.options.seed, known=known
            )
        if seeker.cut and (space.steps or self.cut):
            looked = f"after {seeker.looked} plans of the search" if seeker.looked else "before any plan was searched"
            self.cut.append(looked)
        rows = [one for one in singles if one.figures is not None]
        rows += self._measured(seeker, plans, rows)
        rows += self._joined(rows, [one for one in singles if one.figures is not None and not one.pays])
        verdict, candidates = self._judged(rows)
        chosen = verdict.chosen
        ladder = climb(self.bench, Plan(steps=chosen.plan), self.price) if chosen is not None else []
        return Optimised(
            before_id=self.bench.model.id,
            budget=self.budget,
            price=self.price,
            singles=singles,
            rows=rows,
            front=front([(one, one.figures) for one in rows if one.figures is not None]),
            ladder=ladder,
            candidates=candidates,
            looks=verdict.looks,
            chosen=chosen,
            sentence=self._sentence(rows, candidates, verdict),
            cut=self.cut,
            metric_users=self.bench.loss(Plan(steps=()), ALL_USERS).users,
            data=self.bench.data.name,
            alpha=self.options.alpha,
            again=self.options.again,
        )

    def _deadline(self, share: float) -> float | None:
        return None if self.options.seconds is None else share * self.options.seconds

    def _measured(self, seeker: Seeker, plans: Sequence[Plan], known: Sequence[Rung]) -> list[Rung]:
        """The survivors in full, and where none of them keeps the budget, as many again; each bundle once."""
        rows: list[Rung] = []
        plans = seeker.distinct(plans, [Plan(steps=one.plan) for one in known])
        waiting = seeker.halve(plans, 2 * self.options.survivors)
        with step(f"measuring up to {len(waiting)} plans in fresh processes"):
            for number, plan in enumerate(waiting):
                enough = number >= self.options.survivors and any(map(self._keeps, rows))
                if enough:
                    break
                if self.bench.late(self._deadline(0.95)):
                    self.cut.append(f"when {number} of {len(waiting)} promising plans had been measured")
                    break
                rows.append(rung(self.bench, plan, self.price))
                say(f"{rows[-1].name}: {rows[-1].figures.said(self.budget) if rows[-1].figures else rows[-1].said}")
        return [one for one in rows if one.figures is not None]

    def _joined(self, rows: Sequence[Rung], dropped: Sequence[Rung]) -> list[Rung]:
        """Each step that did not pay alone on top of the plan that would be judged first, one after the other; what
        makes answers cheaper there stays for the next."""
        best = min((one for one in rows if self._may_keep(one)), key=self._order, default=rows[0])
        if not best.plan:
            return []
        found: list[Rung] = []
        with step(f"trying what did not pay alone with {best.name}"):
            for one in dropped:
                plan = self.space.joined(Plan(steps=best.plan), Plan(steps=one.plan))
                if plan is None:
                    continue
                if self.bench.late(self._deadline(0.95)):
                    self.cut.append("before every step that did not pay alone had been tried with others")
                    break
                more = rung(self.bench, plan, self.price, best)
                if more.figures is None or len(self.bench.probe(plan).kept) < len(plan.steps):
                    continue
                found.append(more)
                if more.pays and self._may_keep(more) and self._order(more) < self._order(best):
                    best = more
        return found

    def _order(self, one: Rung) -> tuple[float, float]:
        """By which plans are judged: those that the users that certify can decide by their cost, then the others by
        the users that they need."""
        bound, users = self.budget.max_quality_loss, self._certifying()
        needed = 0.0 if one.lossless else self.bench.loss(Plan(steps=one.plan), ALL_USERS).needed(bound)
        assert one.figures is not None
        return (0.0, one.figures.cost) if needed <= users else (needed, one.figures.cost)

    def _keeps(self, one: Rung) -> bool:
        return one.figures is not None and not _with_room(one.figures).over(self.budget)

    def _may_keep(self, one: Rung) -> bool:
        return self._keeps(one) and one.figures is not None and one.figures.loss <= self.budget.max_quality_loss

    def _settled(self, one: Rung) -> Rung:
        """The same plan with its bundle on disk: measured again where applying it once more gave another bundle."""
        plan = Plan(steps=one.plan)
        before = self.bench.probe(plan).id
        self.bench.bundle(plan)
        return one if self.bench.probe(plan).id == before else rung(self.bench, plan, self.price)

    def _judged(self, rows: Sequence[Rung]) -> tuple[Verdict[Rung], list[Rung]]:
        """The cheapest that keeps the budget by measurement and the promise by certificate, and who was asked."""
        bound, users = self.budget.max_quality_loss, self._certifying()
        candidates = [self._settled(one) for one in rows if self._may_keep(one)]
        candidates = [one for one in candidates if self._may_keep(one)]

        candidates.sort(key=self._order)
        with step(f"judging {self.budget.metric} on {users:,} users that nothing was tuned on"):
            verdict = keep_promise(
                candidates,
                lambda one, alpha: self.bench.judged(Plan(steps=one.plan), alpha),
                bound=bound,
                alpha=self.options.alpha,
                proven=lambda one: one.lossless,
                earlier=lambda one: self.bench.look_at(Plan(steps=one.plan)),
                spent=len(self.bench.looks()),
            )
        return verdict, candidates

    def _certifying(self) -> int:
        return len(self.bench.data.cases("test", "certify"))

    def _sentence(self, rows: Sequence[Rung], candidates: Sequence[Rung], verdict: Verdict[Rung]) -> str:
        if verdict.chosen is not None:
            said = kept(self.budget, rows, verdict.chosen)
        elif verdict.undecided:
            said = undecided(self.budget, candidates, verdict)
        else:
            said = impossible(self.budget, rows)
        return said + "".join(f"; the time ran out {when}" for when in self.cut)


def _with_room(figures: Figures) -> Figures:
    values = {name: getattr(figures, name) * room for name, room in _ROOM.items()}
    return msgspec.structs.replace(figures, **values)


def _finished(bench: Workbench, found: Optimised, options: SearchOptions, out: str | Path | None) -> Recommender:
    """The chosen bundle with card, lineage and certificate, written to `out`."""
    assert found.chosen is not None
    plan = Plan(steps=found.chosen.plan)
    before, look = bench.model, found.looks[-1]
    quality = look.quality or bench.judged(plan, look.alpha)
    lean = Recommender.load(bench.bundle(plan))
    lean.histories = before.histories
    lean.card = {**lean.card, "compression": [msgspec.to_builtins(one) for one in found.chosen.records]}
    lean.lineage = {**lean.lineage, "compressed_from": before.id, "plan": list(plan.steps)}
    promise = {
        "max_quality_loss": found.budget.max_quality_loss, "kept_by": look.kept, "alpha": options.alpha,
        "look": len(found.looks), "budget": msgspec.to_builtins(found.budget),
        "figures": msgspec.to_builtins(found.chosen.figures), "concurrency": options.concurrency,
        "again": options.again,
    }  # fmt: skip
    lean.certificate = {**quality.to_manifest(before.id, bench.data), "promise": promise}
    found.quality = quality
    if out is not None:
        lean.save(out)
    return lean
