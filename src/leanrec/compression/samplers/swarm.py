"""Particle swarm (Kennedy & Eberhart 1995, with the constriction of Clerc & Kennedy 2002) for Optuna.

Trial n is the next place of particle n modulo the size of the swarm. A particle keeps part of its velocity and is drawn
to the best place it has been to and to the best that any particle has been to. All of that is read from the study, and
chance follows from (seed, number of the trial), so that a study that was stopped goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from leanrec.compression.samplers.base import PlanSampler

__all__ = ["ParticleSwarm", "SwarmSampler"]

_INERTIA, _PULL = 0.729, 1.494
_FASTEST = 0.5
_VELOCITY = "swarm:velocity"

Vector = npt.NDArray[np.float64]


class SwarmSampler(BaseSampler):
    """Float dimensions move with the swarm; others, and the first place of each particle, are drawn at random."""

    def __init__(self, seed: int, particles: int = 8) -> None:
        self._seed, self._particles = seed, particles
        self._random = RandomSampler(seed=seed)
        self._space = IntersectionSearchSpace()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        found = self._space.calculate(study)
        return {name: one for name, one in found.items() if isinstance(one, FloatDistribution) and not one.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        done = [one for one in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if one.values]
        own = [one for one in done if one.number % self._particles == trial.number % self._particles]
        if not search_space or not own:
            return {}
        sign = 1.0 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1.0
        at, best_own, best = (
            _place(one, search_space) for one in (own[-1], _best(own, sign), _best(done, sign))
        )  # fmt: skip
        rng = np.random.default_rng((self._seed, trial.number))
        before = np.asarray(own[-1].system_attrs.get(_VELOCITY, np.zeros(len(search_space))))
        if len(before) != len(search_space):
            before = np.zeros(len(search_space))
        pulls = [_PULL * rng.random(len(at)) * (goal - at) for goal in (best_own, best)]
        velocity = np.clip(_INERTIA * before + pulls[0] + pulls[1], -_FASTEST, _FASTEST)
        place = at + velocity
        outside = (place < 0) | (place > 1)
        place = np.clip(np.where(place < 0, -place, np.where(place > 1, 2 - place, place)), 0, 1)
        velocity[outside] *= -1  # it comes back from the wall
        study._storage.set_trial_system_attr(trial._trial_id, _VELOCITY, velocity.tolist())
        ends = [_ends(one) for one in search_space.values()]
        return {
            name: float(low + share * (high - low))
            for name, share, (low, high) in zip(search_space, place, ends, strict=True)
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._random.reseed_rng()


def _best(trials: Sequence[FrozenTrial], sign: float) -> FrozenTrial:
    return min(trials, key=lambda one: (sign * one.values[0], one.number))


def _place(trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> Vector:
    """Where a trial lies, each coordinate as a share of its range."""
    ends = {name: _ends(one) for name, one in space.items()}
    return np.array([(trial.params[name] - low) / (high - low) for name, (low, high) in ends.items()])


def _ends(distribution: BaseDistribution) -> tuple[float, float]:
    assert isinstance(distribution, FloatDistribution)
    return distribution.low, distribution.high


class ParticleSwarm(PlanSampler):
    """Eight particles."""

    cube = True

    def build(self, seed: int) -> BaseSampler:
        return SwarmSampler(seed)
