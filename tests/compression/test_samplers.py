"""Samplers: what they draw follows from seed and history; they find what is good; the cube decodes to every plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import optuna
import pytest

from leanrec.compression import STEPS
from leanrec.compression.base import Plan, Step, StepConfig
from leanrec.compression.samplers import SAMPLERS
from leanrec.compression.space import PlanSpace, canonical, decode, plan_key
from leanrec.core.registry import Entry
from leanrec.core.space import Choice, Dimension, Range


class _TunedConfig(StepConfig, frozen=True, kw_only=True):
    space: ClassVar[Mapping[str, Dimension]] = {
        "bits": Choice((2, 4, 8)),
        "rank": Range(1, 64, log=True),
        "share": Range(0.0, 1.0),
    }
    bits: int = 8
    rank: int = 8
    share: float = 0.5


class Tuned(Step[_TunedConfig]):
    name = "tuned"
    stage = "items"
    Config = _TunedConfig
    apply = None  # type: ignore[assignment]


Tuned.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> PlanSpace:
    monkeypatch.setitem(STEPS.entries, "tuned", Entry(f"{__name__}:Tuned", ""))
    return PlanSpace.of(["int8-items", "int8-dense", "tuned"])


def cost(plan: Plan) -> float:
    """Best with both int8 steps and tuned at 4 bits, rank 20, share .3."""
    names = {step if isinstance(step, str) else step["step"] for step in plan.steps}
    tuned: dict[str, Any] = next((s for s in plan.steps if isinstance(s, dict)), {})
    away = abs(tuned.get("rank", 8) - 20) / 64 + abs(tuned.get("share", 0.5) - 0.3) + abs(tuned.get("bits", 8) - 4) / 4
    return 3 - len(names & {"int8-items", "int8-dense"}) - ("tuned" in names) * (1 - away / 3)


def run(name: str, space: PlanSpace, trials: int, seed: int = 0) -> list[tuple[str, float]]:
    kind = SAMPLERS[name]()
    study = optuna.create_study(sampler=kind.build(seed), directions=["minimize"] * kind.objectives)
    found = []
    for _ in range(trials):
        trial = study.ask()
        plan = space.ask(trial, cube=kind.cube)
        study.tell(trial, [cost(plan)] * kind.objectives)
        found.append((plan_key(plan), cost(plan)))
    return found


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_the_same_seed_draws_the_same_plans(name: str, space: PlanSpace) -> None:
    once = run(name, space, 30)
    assert once == run(name, space, 30)
    assert once[:12] == run(name, space, 12)
    assert once != run(name, space, 30, seed=1)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "random"])
def test_it_finds_what_is_good(name: str, space: PlanSpace) -> None:
    found = [value for _, value in run(name, space, 80)]
    assert min(found) < 0.35
    late = found[-24:]
    assert sum(late) / len(late) < sum(found[:8]) / 8


def test_the_space(space: PlanSpace) -> None:
    assert space.stages == {"dense": ("int8-dense",), "items": ("tuned",), "index": ("int8-items",)}
    assert space.steps == ("int8-dense", "tuned", "int8-items")
    assert space.size() == float("inf")
    finite = PlanSpace.of(["int8-items", "int8-dense"])
    assert finite.size() == 4
    assert [plan.steps for plan in finite.every()] == [
        (), ("int8-items",), ("int8-dense",), ("int8-dense", "int8-items"),
    ]  # fmt: skip
    assert PlanSpace.of([]).size() == 1
    assert [plan.steps for plan in space.variants("tuned")] == [({"step": "tuned", "bits": bits},) for bits in (2, 4)]
    assert plan_key(canonical([{"step": "tuned", "bits": 8, "rank": 8}])) == plan_key(Plan(steps=("tuned",)))


def test_every_value_has_its_part_of_the_cube() -> None:
    assert [decode(share, Choice((2, 4, 8))) for share in (0.0, 0.34, 0.99, 1.0)] == [2, 4, 8, 8]
    assert {decode(share / 100, Range(1, 4)) for share in range(101)} == {1, 2, 3, 4}
    assert decode(0.5, Range(1.0, 100.0, log=True)) == pytest.approx(10)
    assert [decode(share, Range(0.0, 2.0)) for share in (0.0, 0.5, 1.0)] == [0.0, 1.0, 2.0]
