"""The search for plans: what is cheap to know of many, then more users and full measurements for a few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from leanrec.compression.base import Plan
from leanrec.compression.budget import Budget, Price
from leanrec.compression.figures import Figures, foreseen, measured_figures
from leanrec.compression.measure import Measurement
from leanrec.compression.samplers import SAMPLERS
from leanrec.compression.space import PlanSpace, plan_key, step_names
from leanrec.compression.workbench import ALL_USERS, FIRST_USERS, Workbench
from leanrec.core.console import Progress

__all__ = ["Seeker", "penalised"]

_PENALTY = 10.0
_FAILED = 1e3
_MORE = 4

optuna.logging.set_verbosity(optuna.logging.WARNING)


def penalised(figures: Figures, budget: Budget) -> float:
    """The cost, and far above any cost what breaks the budget: what a search makes small."""
    return figures.cost * (1 + _PENALTY * sum(max(0.0, one) for one in figures.excess(budget)))


@dataclass(kw_only=True)
class Seeker:
    """One search on a workbench. deadline: seconds of it after which nothing more is begun, None for no limit.

    looked: plans that were tried. cut: whether the time ended it.
    """

    bench: Workbench
    budget: Budget
    price: Price
    base: Measurement
    deadline: float | None = None
    looked: int = 0
    cut: bool = False

    def foresee(self, plan: Plan, users: int = FIRST_USERS) -> Figures | None:
        """From what is cheap to know; None for a plan that cannot be applied."""
        empty, probe = self.bench.probe(Plan(steps=())), self.bench.probe(plan)
        if probe.error:
            return None
        return foreseen(
            self.base,
            self.price,
            loss=self.bench.loss(plan, users).value,
            slower=probe.p50_ms / empty.p50_ms,
            more_work=probe.core_ms / empty.core_ms,
            touched=probe.touched - empty.touched,
            size=self.base.bundle_bytes + probe.size - empty.size,
        )

    def measure(self, plan: Plan) -> Figures:
        """From a process of its own, and all users that tune."""
        return measured_figures(self.bench.measured(plan), self.bench.loss(plan, ALL_USERS).value, self.price)

    def search(
        self, space: PlanSpace, *, trials: int, sampler: str, seed: int, known: Sequence[Plan] = ()
    ) -> list[Plan]:
        """Distinct plans that can be applied, the most promising first. A space with few plans is tried as a whole.

        known: plans that were looked at before, for another budget; they come into question too.
        """
        found: dict[str, tuple[float, Plan]] = {}
        if space.size() <= trials:
            plans = list(space.every())
            with Progress("trying every plan", len(plans)) as progress:
                for plan in plans:
                    if self._late():
                        break
                    self._note(found, plan)
                    progress.advance()
        else:
            self._sample(found, space, trials, sampler, seed)
        for plan in known:
            if set(step_names(plan)) <= set(space.steps):
                self._note(found, plan)
        return [plan for _, plan in sorted(found.values(), key=lambda one: (one[0], plan_key(one[1])))]

    def distinct(self, plans: Sequence[Plan], measured: Sequence[Plan] = ()) -> list[Plan]:
        """One plan for each bundle, one that is proven where there is; none whose bundle is in `measured`."""
        known = {self.bench.probe(plan).id for plan in measured}
        found: dict[str, Plan] = {}
        for plan in plans:
            probe = self.bench.probe(plan)
            other = found.get(probe.id)
            if probe.id not in known and (other is None or probe.lossless > self.bench.probe(other).lossless):
                found[probe.id] = plan
        return list(found.values())

    def halve(self, plans: Sequence[Plan], survivors: int) -> list[Plan]:
        """The most promising, with more and more users asked about fewer and fewer plans."""
        users, kept = FIRST_USERS, list(plans[: _MORE * survivors])
        while len(kept) > survivors and users < ALL_USERS:
            users *= _MORE
            scored = [(self._score(plan, users), plan_key(plan), plan) for plan in kept]
            kept = [plan for _, _, plan in sorted(scored, key=lambda one: one[:2])]
            kept = kept[: max(survivors, (len(kept) + 1) // 2)]
        return kept[:survivors]

    def _sample(
        self, found: dict[str, tuple[float, Plan]], space: PlanSpace, trials: int, sampler: str, seed: int
    ) -> None:
        chosen = SAMPLERS[sampler]()
        study = optuna.create_study(sampler=chosen.build(seed), directions=["minimize"] * chosen.objectives)
        with Progress(f"searching plans ({sampler})", trials) as progress:
            for _ in range(trials):
                if self._late():
                    break
                trial = study.ask()
                figures = self._note(found, space.ask(trial, cube=chosen.cube))
                for place, excess in enumerate([1.0] if figures is None else figures.excess(self.budget)):
                    trial.set_constraint(str(place), excess)
                study.tell(trial, self._values(figures, chosen.objectives))
                best = min((score for score, _ in found.values()), default=float("nan"))
                progress.advance(note=f"best {best:.4g}")

    def _values(self, figures: Figures | None, objectives: int) -> list[float]:
        if figures is None:
            return [_FAILED * self._worst()] * objectives
        if objectives == 1:
            return [penalised(figures, self.budget)]
        return [figures.cost, max(figures.loss, 0.0), figures.size]

    def _worst(self) -> float:
        return measured_figures(self.base, 0.0, self.price).cost

    def _note(self, found: dict[str, tuple[float, Plan]], plan: Plan) -> Figures | None:
        """Plans that end in the same steps are one plan: the one of these steps alone."""
        figures = self.foresee(plan)
        if figures is not None:
            kept = Plan(steps=self.bench.probe(plan).kept)
            found.setdefault(plan_key(kept), (penalised(figures, self.budget), kept))
        return figures

    def _score(self, plan: Plan, users: int) -> float:
        figures = self.foresee(plan, users)
        assert figures is not None, "plans that failed were left out"
        return penalised(figures, self.budget)

    def _late(self) -> bool:
        self.cut = self.bench.late(self.deadline)
        self.looked += not self.cut
        return self.cut
