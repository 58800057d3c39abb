"""Samplers that Optuna brings."""

from __future__ import annotations

from warnings import catch_warnings, simplefilter

import optuna

from leanrec.compression.samplers.base import FIRST_AT_RANDOM, PlanSampler

__all__ = ["CmaEs", "Nsga2", "Random", "Tpe"]

_POPULATION = 12


class Tpe(PlanSampler):
    """Tree-structured Parzen estimators (Bergstra et al. 2011): plans like the good ones, unlike the others."""

    def build(self, seed: int) -> optuna.samplers.BaseSampler:
        with catch_warnings():
            simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=FIRST_AT_RANDOM, multivariate=True, group=True
            )


class Nsga2(PlanSampler):
    """NSGA-II (Deb et al. 2002): a population of plans that no other beats on everything."""

    objectives = 3

    def build(self, seed: int) -> optuna.samplers.BaseSampler:
        with catch_warnings():
            simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION)


class CmaEs(PlanSampler):
    """CMA-ES (Hansen & Ostermeier 2001): a normal distribution that moves towards what is good."""

    cube = True

    def build(self, seed: int) -> optuna.samplers.BaseSampler:
        with catch_warnings():
            simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=FIRST_AT_RANDOM // 2, with_margin=False)


class Random(PlanSampler):
    """Plans at random: what the others have to beat."""

    def build(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.RandomSampler(seed=seed)
