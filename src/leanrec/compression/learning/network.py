"""The network that a served encoder came from, with its weights as they are served, whatever size they have by now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from leanrec.compression.encoder import plain_tensors
from leanrec.core.config import build
from leanrec.core.errors import ConfigError
from leanrec.data.dataset import Dataset
from leanrec.models import MODELS
from leanrec.models.sequential import SequenceConfig, SequenceModel
from leanrec.nn.blocks import Attention
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["network_of", "trainable"]

_MODELS = {"ligr": "esasrec", "sasrec": "sasrec", "gru": "gru4rec", "caser": "caser", "hstu": "hstu"}
"""What is trained by default to serve with this block or engine."""
_SHAPE = ("dim", "layers", "heads", "max_length", "positions", "window", "filters", "vertical")
"""What a served shape says of the configuration, where both have it."""


def trainable(model: Recommender) -> bool:
    """Whether there is a network to tune: the encoder of a sequence model."""
    return isinstance(model.source, EmbeddingSource) and model.source.engine.kind in (
        "transformer", "gru", "caser", "hstu",
    )  # fmt: skip


def network_of(model: Recommender, data: Dataset) -> tuple[SequenceModel[Any], SequenceConfig, nn.Module]:
    """The model that trains such an encoder, its resolved configuration, and the network with the served weights."""
    source = model.source
    assert isinstance(source, EmbeddingSource) and trainable(model)
    shape = source.engine.config()
    sequential = _model(model, shape)
    config = sequential.resolve(data)
    net = sequential.network(config)
    tensors = plain_tensors(source.engine.tensors())
    _fit_sizes(net, tensors, shape)
    kept = net.state_dict()
    net.load_state_dict({name: torch.from_numpy(np.array(tensors[name], np.float32)) for name in kept})
    return sequential, config, net


def _model(model: Recommender, shape: Mapping[str, Any]) -> SequenceModel[Any]:
    """As the card says it was trained, else by what it looks like."""
    source = model.source
    assert isinstance(source, EmbeddingSource)
    named = str(model.card.get("model"))
    kind: Any = MODELS[named] if named in list(MODELS) else None
    fallback = "bert4rec" if shape.get("bidirectional") else _MODELS[shape.get("block", source.engine.kind)]
    if not (isinstance(kind, type) and issubclass(kind, SequenceModel)):
        kind, said = MODELS[fallback], {}
    else:
        said = dict(model.card.get("config", {}))
    try:
        config = build(kind.Config, said, where="the card")
    except ConfigError:
        config = kind.Config()
    known = set(config.__struct_fields__)
    settings = {name: shape[name] for name in _SHAPE if name in shape and name in known}
    if "max_length" in known and "max_length" not in settings and "window" in shape:
        settings["max_length"] = shape["window"]
    return kind(  # type: ignore[no-any-return]
        config, **settings, device="cpu", precision="float32", table="dense", table_options={}, text="none",
        text_options={}, ema=0.0, contrastive=0.0, pretrain_epochs=0, compile=False,
    )  # fmt: skip


def _fit_sizes(net: nn.Module, tensors: Mapping[str, npt.NDArray[Any]], shape: Mapping[str, Any]) -> None:
    """Linear layers, and heads, of as many rows and columns as are served: fewer where something was pruned."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Linear) and f"{name}.weight" in tensors:
            outputs, inputs = tensors[f"{name}.weight"].shape
            if (outputs, inputs) != (module.out_features, module.in_features):
                parent, _, last = name.rpartition(".")
                setattr(net.get_submodule(parent), last, nn.Linear(inputs, outputs))
    for name, module in net.named_modules():
        if isinstance(module, Attention):
            module.heads = tensors[f"{name}.out.weight"].shape[1] // (shape["dim"] // shape["heads"])
