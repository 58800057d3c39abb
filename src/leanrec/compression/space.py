"""The space of plans: at most one step of each stage, in the order of the stages, with the settings that steps open.

A sampler sees it in one of two ways: by `names`, where a stage is a category and a step's settings are asked for only
when it is chosen; or as a `cube`, where everything is a number between 0 and 1 and every plan has the same coordinates,
which is what samplers that move through space need.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from leanrec.compression import STEPS
from leanrec.compression.base import STAGES, Plan, Step, make_step
from leanrec.core.config import to_dict
from leanrec.core.errors import MissingExtra
from leanrec.core.space import Choice, Dimension, Range

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["PlanSpace", "canonical", "plan_key", "step_names"]

NONE = "-"
_FEW = 3
"""Values of a float range when plans are counted."""


def canonical(plan: Plan | Iterable[str | Mapping[str, Any]]) -> Plan:
    """The same plan, with every step in its shortest words."""
    entries = plan.steps if isinstance(plan, Plan) else plan
    return Plan(steps=tuple(make_step(entry).entry() for entry in entries))


def plan_key(plan: Plan) -> str:
    """One text for one plan."""
    return msgspec.json.encode(canonical(plan).steps, order="sorted").decode()


def step_names(plan: Plan) -> list[str]:
    """The names of a plan's steps."""
    return [entry if isinstance(entry, str) else entry["step"] for entry in plan.steps]


@dataclass(frozen=True, slots=True)
class PlanSpace:
    """stages: stage -> names of the steps that may stand there, in the order in which they are applied."""

    stages: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, names: Iterable[str] | None = None) -> PlanSpace:
        """All registered steps, or those named; steps whose packages are not installed are left out."""
        by_stage: dict[str, list[str]] = {stage: [] for stage in STAGES}
        for name in STEPS if names is None else names:
            try:
                by_stage[STEPS[name].stage].append(name)
            except MissingExtra:
                continue
        return cls({stage: tuple(some) for stage, some in by_stage.items() if some})

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(name for some in self.stages.values() for name in some)

    @staticmethod
    def variants(name: str) -> list[Plan]:
        """A step alone with one setting changed at a time, where the setting is one of a few values and means
        something."""
        default = to_dict(STEPS[name].Config())
        changed = [
            {"step": name, key: value}
            for key, dimension in STEPS[name].Config.space.items()
            if isinstance(dimension, Choice)
            for value in dimension.values
            if value != default[key]
        ]
        plans = {plan_key(plan): plan for plan in (canonical([one]) for one in changed)}
        plans.pop(plan_key(Plan(steps=(name,))), None)
        return list(plans.values())

    @staticmethod
    def joined(plan: Plan, more: Plan) -> Plan | None:
        """The steps of both, in the order of the stages; None where one stage would have two."""
        steps = sorted((*plan.steps, *more.steps), key=lambda entry: STAGES.index(make_step(entry).stage))
        stages = [make_step(entry).stage for entry in steps]
        return canonical(steps) if len(set(stages)) == len(stages) else None

    def size(self) -> float:
        """How many plans there are, the empty one too; infinite where a setting is a float."""
        return math.prod(1 + sum(self._settings(name) for name in some) for some in self.stages.values())

    def every(self) -> Iterator[Plan]:
        """All plans of a finite space, those with fewer steps first."""
        choices = [[None, *itertools.chain.from_iterable(map(_every, some))] for some in self.stages.values()]
        plans = [tuple(entry for entry in chosen if entry is not None) for chosen in itertools.product(*choices)]
        yield from map(canonical, sorted(plans, key=len))

    def ask(self, trial: Trial, *, cube: bool) -> Plan:
        """The plan that a trial is to try."""
        suggest = _from_cube if cube else _named
        return self.plan(lambda name, dimension: suggest(trial, name, dimension), everything=cube)

    def plan(self, choose: Callable[[str, Dimension], Any], *, everything: bool = False) -> Plan:
        """A plan from a way to choose: dimension's name and range -> value.

        everything: ask for the settings of all steps, chosen or not, so that every plan answers the same questions.
        """
        steps: list[Mapping[str, Any]] = []
        for stage, names in self.stages.items():
            chosen = choose(stage, Choice((NONE, *names)))
            for name in names:
                if everything or name == chosen:
                    settings: dict[str, Any] = {}
                    for key, dimension in STEPS[name].Config.space.items():
                        if everything or key not in STEPS[name].Config(**settings).idle():
                            settings[key] = choose(f"{name}.{key}", dimension)
                    if name == chosen:
                        steps.append({"step": name, **settings})
        return canonical(steps)

    @staticmethod
    def _settings(name: str) -> float:
        return math.prod(map(_count, STEPS[name].Config.space.values()))


def _count(dimension: Dimension) -> float:
    match dimension:
        case Choice(values):
            return len(values)
        case Range(low, high) if dimension.whole:
            return high - low + 1
    return math.inf


def _every(name: str) -> Iterator[dict[str, Any]]:
    kind: type[Step[Any]] = STEPS[name]
    values = [
        one.values if isinstance(one, Choice) else range(int(one.low), int(one.high) + 1)
        for one in kind.Config.space.values()
    ]
    for chosen in itertools.product(*values):
        yield {"step": name, **dict(zip(kind.Config.space, chosen, strict=True))}


def _named(trial: Trial, name: str, dimension: Dimension) -> Any:
    match dimension:
        case Choice(values):
            return trial.suggest_categorical(name, values)
        case Range(low, high, log) if dimension.whole:
            return trial.suggest_int(name, int(low), int(high), log=log)
        case Range(low, high, log):
            return trial.suggest_float(name, low, high, log=log)


def _from_cube(trial: Trial, name: str, dimension: Dimension) -> Any:
    return decode(trial.suggest_float(name, 0.0, 1.0), dimension)


def decode(share: float, dimension: Dimension) -> Any:
    """The value that lies at a share in [0, 1] of a dimension."""
    if isinstance(dimension, Choice):
        return dimension.values[min(int(share * len(dimension.values)), len(dimension.values) - 1)]
    low, high = dimension.low, dimension.high + dimension.whole
    value = low * (high / low) ** share if dimension.log else low + (high - low) * share
    return min(int(value), int(dimension.high)) if dimension.whole else float(min(value, high))
