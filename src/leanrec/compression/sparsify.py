"""Unstructured pruning: weights go to zero, at once or little by little in fine-tuning, and zeros are not stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from leanrec.compression.base import Step, StepConfig, StepRecord, Work
from leanrec.compression.encoder import calibration, dense_layers, observe
from leanrec.compression.masks import KINDS, Pattern, mask_of
from leanrec.compression.prune import refit_rows
from leanrec.compression.quantise import Pays, none_left, paid
from leanrec.core.errors import ConfigError
from leanrec.core.space import Choice, Dimension, Range
from leanrec.runtime.dense import DENSE
from leanrec.runtime.dense.base import DenseLayer, Inputs
from leanrec.runtime.recommender import Recommender

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Sparsify"]

F64 = npt.NDArray[np.float64]
_RENEW = 0.02
"""Of the ramp: how often it is chosen anew which weights are zero."""


class SparsifyConfig(StepConfig, frozen=True, kw_only=True):
    """How many weights go, in which pattern, and how."""

    sparsity: float = 0.8
    """Share of the weights of each layer that goes; half of them for `2:4`."""
    pattern: Pattern = "free"
    """`free`, `2:4` (two of every four inputs of an output stay) or `block` (8 by 8 weights stay or go together)."""
    score: Literal["output", "magnitude", "movement"] = "output"
    """What a weight counts for: its size times that of its input (arXiv:2306.11695), its size alone, or what its moves
    in fine-tuning say (away from zero is worth more, arXiv:2005.07683); the last needs epochs."""
    layers: tuple[str, ...] = ("*",)
    pays: Pays = "bytes"
    calibrate: int = 512
    epochs: int = 0
    """Of fine-tuning; over the first half weights go little by little, then what is left learns. 0: all at once."""
    lr: float = 3e-4

    space: ClassVar[Mapping[str, Dimension]] = {
        "sparsity": Range(0.3, 0.95), "pattern": Choice(("free", "2:4", "block")), "pays": Choice(("time", "bytes")),
        "epochs": Choice((0, 4)),
    }  # fmt: skip


class Sparsify(Step[SparsifyConfig]):
    """Float32 layers whose names match become sparse ones of the kind that suits the pattern.

    Where nothing is learned afterwards, the weights that stay are fitted so that the outputs on calibration histories
    change least.
    """

    name = "sparsify"
    stage = "prune"
    Config = SparsifyConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        config = self.config
        if not 0 < config.sparsity < 1:
            raise ConfigError(f"sparsify: sparsity={config.sparsity} is not a share: use a number between 0 and 1")
        if config.score == "movement" and not config.epochs:
            raise ConfigError("sparsify: score=movement is told by fine-tuning: set epochs, or use score=output")
        layers = dense_layers(model, config.layers)
        if not layers:
            return model, none_left(self.name, model)
        inputs = observe(model, layers, calibration(model, work, config.calibrate)) if config.calibrate else {}
        facts: dict[str, Any] = {}
        tuned = model
        if config.epochs:
            from leanrec.compression.learning.network import trainable
            from leanrec.compression.learning.tuning import tune

            if not trainable(model):
                return model, none_left(self.name, model, "network that can be tuned: leave epochs out")
            ramp = max(1, config.epochs // 2)
            gradual = _Gradual(config, list(layers), inputs, ramp / config.epochs)
            tuned, facts = tune(
                model, work, epochs=config.epochs, lr=config.lr, after=gradual, ramp=ramp,
            )  # fmt: skip
            layers = dense_layers(tuned, config.layers)
        kind = DENSE[KINDS[config.pattern]]
        sparse: dict[str, DenseLayer] = {}
        for name, layer in layers.items():
            worth_OD = _worth(layer.weight(), inputs.get(name) if config.score == "output" else None)
            kept_OD = mask_of(worth_OD, config.pattern, _share(config))
            weight_OD = np.where(kept_OD, layer.weight(), np.float32(0))
            if name in inputs and not config.epochs:
                weight_OD = refit_rows(layer.weight(), kept_OD, inputs[name])
            sparse[name] = kind.encode(weight_OD, layer.bias, inputs.get(name))
        lean, record = paid(self.name, tuned, layers, sparse, work, config.pays)
        zeros = {name: float((layer.weight() == 0).mean()) for name, layer in sparse.items()}
        facts = {**facts, **record.facts, "zeros": zeros}
        if not record.applied:
            return self.left(model, record.said, facts)
        return lean, StepRecord(step=self.name, applied=True, said=record.said, facts=facts)


def _worth(weight_OD: npt.NDArray[np.float32], inputs: Inputs | None) -> F64:
    worth_OD: F64 = np.abs(weight_OD).astype(np.float64)
    return worth_OD if inputs is None else worth_OD * np.sqrt(np.maximum(np.diagonal(inputs.square_DD), 1e-12))


class _Gradual:
    """Sets weights of a network to zero after every step: more of them along a cubic ramp (arXiv:1710.01878)."""

    def __init__(self, config: SparsifyConfig, names: list[str], inputs: Mapping[str, Inputs], ramp: float) -> None:
        self._config, self._names, self._inputs, self._ramp = config, names, inputs, ramp
        self._masks: dict[str, npt.NDArray[np.bool_]] = {}
        self._moves: dict[str, F64] = {}
        self._renewed = 0.0

    def __call__(self, net: nn.Module, done: float) -> None:
        """done: the share of the training that is over."""
        part = min(1.0, done / self._ramp)
        renew = part > self._renewed and (part >= 1 or part - self._renewed >= _RENEW)
        for name in self._names:
            parameter = net.get_parameter(f"{name}.weight")
            weight_OD = parameter.detach().numpy()
            if self._config.score == "movement" and parameter.grad is not None:
                moved = -(weight_OD * parameter.grad.numpy()).astype(np.float64)
                self._moves[name] = self._moves.get(name, np.zeros_like(moved)) + moved
            if renew:
                share = _share(self._config) * (1 - (1 - part) ** 3)
                self._masks[name] = mask_of(self._worth(name, weight_OD), self._config.pattern, share)
            if name in self._masks:
                weight_OD[~self._masks[name]] = 0
        self._renewed = part if renew else self._renewed

    def _worth(self, name: str, weight_OD: npt.NDArray[np.float32]) -> F64:
        """What is zero already goes first, so that it stays so."""
        if self._config.score != "movement":
            return _worth(weight_OD, self._inputs.get(name) if self._config.score == "output" else None)
        moves_OD = self._moves.get(name, np.abs(weight_OD).astype(np.float64))
        return np.where(weight_OD == 0, 0.0, moves_OD - moves_OD.min() + 1e-12)


def _share(config: SparsifyConfig) -> float:
    """The share of all weights that goes."""
    return 0.5 if config.pattern == "2:4" else config.sparsity
