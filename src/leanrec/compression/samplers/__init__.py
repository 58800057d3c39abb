"""Ways to choose the next plan of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanrec.core.registry import Entry, Registry

if TYPE_CHECKING:
    from leanrec.compression.samplers.base import PlanSampler

__all__ = ["SAMPLERS"]

_KNOWN = "leanrec.compression.samplers.known"

SAMPLERS: Registry[PlanSampler] = Registry(
    "sampler",
    {
        "tpe": Entry(f"{_KNOWN}:Tpe", "tree-structured Parzen estimators, from Optuna", "train"),
        "nsga2": Entry(f"{_KNOWN}:Nsga2", "NSGA-II over cost, loss and bytes, from Optuna", "train"),
        "cma-es": Entry(f"{_KNOWN}:CmaEs", "CMA-ES over the unit cube, from Optuna", "train"),
        "particle-swarm": Entry("leanrec.compression.samplers.swarm:ParticleSwarm", "a swarm of eight", "train"),
        "random": Entry(f"{_KNOWN}:Random", "plans at random", "train"),
    },
)
