"""The contract of a compression step: a plain Recommender in, a plain Recommender out, and a record of what was done.

No model knows that it may be compressed: a step puts other parts (an index, an engine) in place of the ones it finds.
A step that cannot be applied, or does not pay on this machine, returns the recommender it was given and says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

import msgspec

from leanrec.core.config import Config, build, load_toml, to_dict
from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.registry import nearest
from leanrec.data.dataset import Dataset
from leanrec.runtime.base import Source
from leanrec.runtime.recommender import Recommender

__all__ = [
    "PLANS", "STAGES", "Plan", "Stage", "Step", "StepConfig", "StepRecord", "Work", "make_step", "read_plan",
    "with_source",
]  # fmt: skip

Stage = Literal["student", "prune", "factorise", "dense", "items", "index", "engine", "serving"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""What steps are for, in the order in which they are applied; a searched plan holds at most one step of each.

student: another, smaller model learns from this one. prune: heads, channels, layers, weights or rows go. factorise: low
rank. dense: how dense layers are kept and multiplied. items: how item vectors are kept. index: how they are scanned.
engine: what carries the network out, with how many threads. serving: how a process answers with all that: batches,
threads of scans, cores, answers that are kept.
"""


class StepConfig(Config, frozen=True, kw_only=True):
    """What a step can be told; `space` is what the optimiser may try of it. This one: nothing."""

    def idle(self) -> Collection[str]:
        """Settings that mean nothing beside the others."""
        return ()


C = TypeVar("C", bound=StepConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a step may look at and learn from.

    histories: non-empty histories in the model's rows, as they are asked for, to measure speed with. data: the data set
    the model was trained on; a step that calibrates, fine-tunes or distils uses its training events and the users that
    tune, never those that certify. seconds: how long a step may learn, None for as long as it takes.
    """

    histories: Jagged
    data: Dataset
    seed: int = 0
    seconds: float | None = None


class Plan(Config, frozen=True):
    """Steps in the order in which they are applied: a name, or a table with `step` and the step's settings."""

    steps: tuple[str | dict[str, Any], ...]

    def build(self, *, where: str = "plan") -> list[Step[Any]]:
        """The steps themselves; a ConfigError names an unknown step or setting."""
        return [make_step(entry, where=f"{where}, step {place}") for place, entry in enumerate(self.steps, start=1)]


PLANS = {"int8": Plan(steps=("int8-items", "int8-dense"))}
"""Plans that have a name."""


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did. lossless: answers are the same by proof. said: one sentence for a person. facts: its numbers."""

    step: str
    applied: bool
    lossless: bool = False
    said: str
    facts: dict[str, Any] = msgspec.field(default_factory=dict)


class Step(ABC, Generic[C]):
    """One way to make a recommender smaller or faster. C: its configuration.

    `name` is what a plan calls it; `Step(bits=4)` builds the configuration from keywords. `stage` is what it is for:
    the optimiser tries at most one step of each stage, in the order of `STAGES`. `learns`: whether it trains a network,
    for as long as it may.
    """

    name: ClassVar[str]
    stage: ClassVar[Stage]
    learns: ClassVar[bool] = False
    Config: ClassVar[type[StepConfig]] = StepConfig

    def __init__(self, config: C | None = None, *, where: str = "", **overrides: Any) -> None:
        values = {**(to_dict(config) if config is not None else {}), **overrides}
        self.config: C = build(self.Config, values, where=where or self.name)  # type: ignore[assignment]

    @abstractmethod
    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        """The transformed recommender, or `model` itself when the step is not applied; `model` is never changed."""

    def left(
        self, model: Recommender, why: str, facts: Mapping[str, Any] | None = None
    ) -> tuple[Recommender, StepRecord]:
        """What `apply` gives when the step is not applied."""
        return model, StepRecord(step=self.name, applied=False, said=why, facts=dict(facts or {}))

    def entry(self) -> str | dict[str, Any]:
        """What a plan would say of this step; settings that mean nothing are not said."""
        default, idle = to_dict(self.Config()), self.config.idle()
        said = to_dict(self.config).items()
        changed = {key: value for key, value in said if value != default[key] and key not in idle}
        return {"step": self.name, **changed} if changed else self.name


def make_step(entry: str | Mapping[str, Any], *, where: str = "plan") -> Step[Any]:
    """A step from what a plan says of it: its name, or a table with `step` and settings."""
    from leanrec.compression import STEPS

    if isinstance(entry, str):
        return STEPS[entry](where=f"{where} ({entry})")
    settings = dict(entry)
    name = settings.pop("step", None)
    if not isinstance(name, str):
        raise ConfigError(f'{where}: {dict(entry)} does not say its step: write {{step = "int8-items"}}')
    return STEPS[name](where=f"{where} ({name})", **settings)


def read_plan(plan: str | Path | Plan) -> Plan:
    """A named plan, a TOML file with `steps = [...]`, or a Plan; every step and setting is known."""
    if isinstance(plan, Plan):
        found, where = plan, "plan"
    elif str(plan) in PLANS:
        found, where = PLANS[str(plan)], str(plan)
    elif Path(plan).suffix == ".toml":
        found, where = build(Plan, load_toml(plan), where=str(plan)), str(plan)
    else:
        raise ConfigError(
            f"unknown plan {str(plan)!r}{nearest(str(plan), list(PLANS))}; "
            f"there are: {', '.join(PLANS)}, or a .toml file with steps = [...]"
        )
    found.build(where=where)
    return found


def with_source(model: Recommender, source: Source) -> Recommender:
    """The same recommender, answering from another source."""
    return Recommender(
        source,
        model.items,
        repeats=model.repeats,
        fallback=model.fallback,
        users=model.users,
        attributes=model.attributes,
        histories=model.histories,
        card=model.card,
        lineage=model.lineage,
        answering=model.answering,
    )
