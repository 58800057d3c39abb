"""Fine-tuning that knows of the rounding to come, then the rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy.typing as npt

from leanrec.compression.base import Step, StepConfig, StepRecord, Work
from leanrec.compression.encoder import calibration, dense_layers, observe, with_layers, with_tensors
from leanrec.compression.quantise import Pays, Precision, none_left, paid
from leanrec.core.console import step
from leanrec.core.space import Choice, Dimension, Range
from leanrec.runtime.dense import DENSE
from leanrec.runtime.dense.base import DenseLayer
from leanrec.runtime.recommender import Recommender

__all__ = ["QuantiseAware"]


class QuantiseAwareConfig(StepConfig, frozen=True, kw_only=True):
    """Which precision, of which layers, and how it is learned."""

    precision: Precision = "int4-weight"
    layers: tuple[str, ...] = ("*",)
    pays: Pays = "bytes"
    calibrate: int = 512
    epochs: int = 5
    """At most; item vectors stay as they are."""
    lr: float = 3e-4

    space: ClassVar[Mapping[str, Dimension]] = {
        "precision": Choice(("int8-weight", "int4-weight", "int8-static")), "lr": Range(1e-4, 1e-3, log=True),
    }  # fmt: skip


class QuantiseAware(Step[QuantiseAwareConfig]):
    """Rounded weights go forward in training, gradients pass straight through to those in float32."""

    name = "quantise-aware"
    stage = "dense"
    learns = True
    Config = QuantiseAwareConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        from leanrec.compression.learning.network import trainable
        from leanrec.compression.learning.tuning import tune
        from leanrec.nn.rounded import round_linears

        config = self.config
        layers = dense_layers(model, config.layers)
        if not layers or not trainable(model):
            return model, none_left(self.name, model, "dense layers in float32 of a network that can be tuned")
        histories = calibration(model, work, max(1, config.calibrate))
        inputs = observe(model, layers, histories)
        limits = {name: inputs[name].limit(127) for name in layers}
        kind = DENSE[config.precision]

        def coded(tuned: Recommender) -> dict[str, DenseLayer]:
            return {
                name: kind.encode(layer.weight(), layer.bias, inputs[name])
                for name, layer in dense_layers(tuned, config.layers).items()
            }

        plain: list[Recommender] = []

        def finish(tensors: Mapping[str, npt.NDArray[Any]]) -> Recommender:
            plain[:] = [with_tensors(model, tensors)]
            return with_layers(plain[0], coded(plain[0]))

        with step(f"{self.name}: {len(layers)} layers as {config.precision}"):
            _, facts = tune(
                model, work, epochs=config.epochs, lr=config.lr, finish=finish,
                prepare=lambda net: round_linears(net, dict.fromkeys(layers, config.precision), limits),
            )  # fmt: skip
        tuned = plain[0]
        lean, record = paid(self.name, tuned, dense_layers(tuned, config.layers), coded(tuned), work, config.pays)
        facts = {**record.facts, **facts}
        if not record.applied:
            return self.left(model, record.said, facts)
        said = f"{record.said}, after {facts['epochs']} epochs"
        return lean, StepRecord(step=self.name, applied=True, said=said, facts=facts)
