"""Dense layers as products of two thin factors, where that is less than the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from leanrec.compression.base import Step, StepConfig, StepRecord, Work
from leanrec.compression.encoder import calibration, dense_layers, observe
from leanrec.compression.memory import remember, remembered
from leanrec.compression.quantise import Pays, none_left, paid
from leanrec.core.errors import ConfigError
from leanrec.core.space import Choice, Dimension, Range
from leanrec.runtime.dense.base import DenseLayer, Inputs
from leanrec.runtime.dense.plain import LowRank
from leanrec.runtime.recommender import Recommender

__all__ = ["Factorise"]


class FactoriseConfig(StepConfig, frozen=True, kw_only=True):
    """How much is kept: a share of the energy, or of the weights."""

    energy: float = 0.99
    """Share of the squared outputs of each layer that its factors keep."""
    budget: float | None = None
    """Share of the weights of all layers together that may be left; the directions that add most are kept, wherever
    they stand. Leaves `energy` out."""
    whiten: bool = True
    """Whether errors count by the inputs that calibration histories bring, or by the weights alone."""
    layers: tuple[str, ...] = ("*",)
    pays: Pays = "time"
    calibrate: int = 512

    space: ClassVar[Mapping[str, Dimension]] = {
        "energy": Range(0.9, 0.999), "pays": Choice(("time", "bytes")),
    }  # fmt: skip


class Factorise(Step[FactoriseConfig]):
    """A layer stays as it is where two factors of the rank found would hold more numbers than the matrix."""

    name = "low-rank"
    stage = "factorise"
    Config = FactoriseConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        config = self.config
        for name, share in (("energy", config.energy), ("budget", config.budget)):
            if share is not None and not 0 < share <= 1:
                raise ConfigError(f"low-rank: {name}={share} is not a share: use a number above 0, at most 1")
        layers = dense_layers(model, config.layers)
        if not layers:
            return model, none_left(self.name, model)
        if remembered(model, self.name) is not None:
            said = f"{model.source.name} is factorised already"
            return self.left(model, said)
        inputs = observe(model, layers, calibration(model, work, config.calibrate)) if config.whiten else {}
        ranks = self._ranks(layers, inputs)
        thin = {
            name: rank for name, rank in ranks.items() if rank * sum(layers[name].size) < np.prod(layers[name].size)
        }
        if not thin:
            said = f"no layer of {model.source.name} has so low a rank that two factors are smaller"
            return self.left(model, said, {"ranks": ranks})
        after: dict[str, DenseLayer] = {
            name: LowRank.of_rank(layers[name].weight(), layers[name].bias, rank, inputs.get(name))
            for name, rank in thin.items()
        }
        lean, record = paid(self.name, model, {name: layers[name] for name in thin}, after, work, config.pays)
        facts = {**record.facts, "ranks": ranks}
        lean = remember(lean, self.name, self.entry()) if record.applied else lean
        return lean, StepRecord(step=self.name, applied=record.applied, said=record.said, facts=facts)

    def _ranks(self, layers: Mapping[str, DenseLayer], inputs: Mapping[str, Inputs]) -> dict[str, int]:
        """Layer -> rank."""
        shares = {}
        for name, layer in layers.items():
            squares = LowRank.spectrum(layer.weight(), inputs.get(name)) ** 2
            shares[name] = squares / max(float(squares.sum()), 1e-300)
        if self.config.budget is None:
            return {
                name: min(len(share), 1 + int(np.searchsorted(np.cumsum(share), self.config.energy)))
                for name, share in shares.items()
            }
        left = self.config.budget * sum(float(np.prod(layer.size)) for layer in layers.values())
        ranks = dict.fromkeys(layers, 1)
        left -= sum(sum(layer.size) for layer in layers.values())
        gains = [(share[rank] / sum(layers[name].size), name, rank) for name, share in shares.items()
                 for rank in range(1, len(share))]  # fmt: skip
        for _, name, rank in sorted(gains, key=lambda gain: (-gain[0], gain[1], gain[2])):
            price = sum(layers[name].size)
            if rank == ranks[name] and price <= left:
                ranks[name], left = rank + 1, left - price
        return ranks
