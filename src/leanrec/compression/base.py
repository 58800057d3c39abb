"""The contract of a compression step: a plain Recommender in, a plain Recommender out, and a record of what was done.

No model knows that it may be compressed: a step puts other parts (an index, an engine) in place of the ones it finds.
A step that cannot be applied, or does not pay on this machine, returns the recommender it was given and says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from leanrec.core.config import Config, build, load_toml
from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.registry import nearest
from leanrec.runtime.base import Source
from leanrec.runtime.recommender import Recommender

__all__ = ["PLANS", "Plan", "Step", "StepRecord", "read_plan", "with_source"]


class Plan(Config, frozen=True):
    """Steps by name, in the order in which they are applied."""

    steps: tuple[str, ...]


PLANS = {"int8": Plan(steps=("int8-items", "int8-dense"))}
"""Plans that have a name."""


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did. lossless: answers are the same by proof. said: one sentence for a person. facts: its numbers."""

    step: str
    applied: bool
    lossless: bool = False
    said: str
    facts: dict[str, Any] = msgspec.field(default_factory=dict)


class Step(ABC):
    """One way to make a recommender smaller or faster."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, model: Recommender, histories: Jagged) -> tuple[Recommender, StepRecord]:
        """The transformed recommender, or `model` itself when the step is not applied.

        histories: non-empty histories in the model's rows, as they are asked for, to measure with.
        """


def read_plan(plan: str | Path | Plan) -> Plan:
    """A named plan, a TOML file with `steps = [...]`, or a Plan; every step is known."""
    from leanrec.compression import STEPS

    if isinstance(plan, Plan):
        found = plan
    elif str(plan) in PLANS:
        found = PLANS[str(plan)]
    elif Path(plan).suffix == ".toml":
        found = build(Plan, load_toml(plan), where=str(plan))
    else:
        raise ConfigError(
            f"unknown plan {str(plan)!r}{nearest(str(plan), list(PLANS))}; "
            f"there are: {', '.join(PLANS)}, or a .toml file with steps = [...]"
        )
    for step in found.steps:
        _ = STEPS[step]
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
    )
