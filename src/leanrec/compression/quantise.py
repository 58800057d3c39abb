"""Dense layers in fewer bits: one precision for all of them, or for each the one that it tolerates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from leanrec.compression.agreement import Agreement
from leanrec.compression.base import Step, StepConfig, StepRecord, Work
from leanrec.compression.encoder import (
    calibration,
    dense_layers,
    encoder_bytes,
    observe,
    time_layers,
    usual_length,
    with_layers,
)
from leanrec.compression.memory import remember, remembered
from leanrec.compression.sensitivity import by_layer, mixed
from leanrec.core.console import step
from leanrec.core.space import Choice, Dimension, Range
from leanrec.runtime.dense import DENSE
from leanrec.runtime.dense.base import DenseLayer
from leanrec.runtime.recommender import Recommender

__all__ = ["PAYS", "MixedPrecision", "Precision", "Quantise", "none_left", "paid"]

Precision = Literal["int8", "int8-static", "int8-weight", "int4-weight", "bfloat16"]
Pays = Literal["time", "bytes"]
PAYS = 1.1
"""What makes layers less than 10 % faster, or smaller, is not worth its error."""


class QuantiseConfig(StepConfig, frozen=True, kw_only=True):
    """Which precision, of which layers, and what it has to buy."""

    precision: Precision = "int8"
    layers: tuple[str, ...] = ("*",)
    """Names of layers, with * and ?."""
    pays: Pays = "time"
    """Dropped unless the layers become a tenth faster on this machine (`time`), or a tenth smaller (`bytes`)."""
    calibrate: int = 512
    """Histories of users that tune from which ranges and errors are measured; 0 for none."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "precision": Choice(("int8", "int8-static", "int8-weight", "int4-weight", "bfloat16")),
        "pays": Choice(("time", "bytes")),
    }


class Quantise(Step[QuantiseConfig]):
    """Every float32 layer whose name matches is encoded; the rest stays."""

    name = "quantise"
    stage = "dense"
    Config = QuantiseConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        config = self.config
        layers = dense_layers(model, config.layers)
        if not layers:
            return model, none_left(self.name, model)
        inputs = observe(model, layers, calibration(model, work, config.calibrate)) if config.calibrate else {}
        kind = DENSE[config.precision]
        coded = {name: kind.encode(layer.weight(), layer.bias, inputs.get(name)) for name, layer in layers.items()}
        return paid(self.name, model, layers, coded, work, config.pays)


class MixedConfig(StepConfig, frozen=True, kw_only=True):
    """What may be lost, and what is tried."""

    tolerance: float = 0.01
    """The most that may be lost, a share."""
    metric: str = "overlap@10"
    """Of the original's answers (`overlap@K`) or of a metric on validation events, on users that tune."""
    precisions: tuple[Precision, ...] = ("bfloat16", "int8-weight", "int4-weight")
    layers: tuple[str, ...] = ("*",)
    pays: Pays = "bytes"
    calibrate: int = 512
    users: int = 1000

    space: ClassVar[Mapping[str, Dimension]] = {
        "tolerance": Range(0.001, 0.1, log=True), "pays": Choice(("time", "bytes")),
    }  # fmt: skip


class MixedPrecision(Step[MixedConfig]):
    """Each layer, and each group of layers, is tried alone in each precision; then the cheapest mix that is tolerated.

    The table of losses stands in the record's facts under `sensitivity`.
    """

    name = "mixed-precision"
    stage = "dense"
    Config = MixedConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        config = self.config
        layers = dense_layers(model, config.layers)
        if not layers:
            return model, none_left(self.name, model)
        if remembered(model, self.name) is not None:
            said = f"the layers of {model.source.name} have their precisions already"
            return self.left(model, said)
        inputs = observe(model, layers, calibration(model, work, config.calibrate)) if config.calibrate else {}
        judge = Agreement(model, work, config.metric, config.users)
        coded: dict[str, dict[str, DenseLayer]] = {
            name: {kind: DENSE[kind].encode(layer.weight(), layer.bias, inputs.get(name)) for kind in config.precisions}
            for name, layer in layers.items()
        }
        tokens = usual_length(work)

        def cost(name: str, layer: DenseLayer) -> float:
            return float(layer.nbytes) if config.pays == "bytes" else time_layers({name: layer}, tokens)

        with step(f"{len(layers)} layers in {len(config.precisions)} precisions"):
            table = by_layer(model, layers, coded, judge, cost)
            chosen, loss = mixed(model, table, coded, judge, config.tolerance)
        facts = {
            "metric": config.metric, "tolerance": config.tolerance, "pays": config.pays, "loss": loss,
            "sensitivity": table,
        }  # fmt: skip
        if not chosen:
            said = f"nothing is cheaper within {config.tolerance:.2%} of {config.metric}"
            return self.left(model, said, facts)
        picked = {name: coded[name][kind] for name, kind in chosen.items()}
        lean, record = paid(self.name, model, {name: layers[name] for name in picked}, picked, work, config.pays)
        lean = remember(lean, self.name, self.entry()) if record.applied else lean
        return lean, StepRecord(
            step=self.name, applied=record.applied, said=f"{record.said}; {loss:.2%} of {config.metric} lost",
            facts={**facts, **record.facts, "precisions": chosen},
        )  # fmt: skip


def none_left(name: str, model: Recommender, what: str = "dense layers in float32") -> StepRecord:
    """Nothing to do."""
    return StepRecord(step=name, applied=False, said=f"{model.source.name} has no {what}")


def paid(
    name: str, model: Recommender, before: Mapping[str, DenseLayer], after: Mapping[str, DenseLayer], work: Work,
    pays: Pays,
) -> tuple[Recommender, StepRecord]:  # fmt: skip
    """The layers put in where they buy what they should; the record has both prices either way."""
    tokens = usual_length(work)
    old, new = time_layers(before, tokens), time_layers(after, tokens)
    size, lean_size = (sum(layer.nbytes for layer in layers.values()) for layers in (before, after))
    kinds = sorted({layer.kind for layer in after.values()})
    facts: dict[str, Any] = {
        "kinds": kinds, "tokens": tokens, "layers": len(after), "before_us": 1e6 * old, "after_us": 1e6 * new,
        "bytes_before": size, "bytes_after": lean_size, "encoder_bytes": encoder_bytes(model),
    }  # fmt: skip
    said = (
        f"{len(after)} layers as {', '.join(kinds)}: {lean_size:,} bytes in place of {size:,}, "
        f"{1e6 * new:.0f} us in place of {1e6 * old:.0f} for {tokens} tokens"
    )
    if (new * PAYS > old) if pays == "time" else (lean_size * PAYS > size):
        said = f"dropped, it does not pay on this machine: {said}"
        return model, StepRecord(step=name, applied=False, said=said, facts=facts)
    return with_layers(model, after), StepRecord(step=name, applied=True, said=said, facts=facts)
