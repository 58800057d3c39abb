"""Compiled loops do not check bounds: an encoder whose arrays do not fit together is refused before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from leanrec.core.errors import BundleError
from leanrec.runtime.engines.transformer import TransformerEngine

CONFIG = {"block": "ligr", "dim": 4, "layers": 1, "heads": 2, "max_length": 3}
LAYER = {
    "attention.qkv": (12, 4), "attention.out": (4, 4), "up": (12, 4), "down": (4, 6), "gate1": (4, 4), "gate2": (4, 4),
}  # fmt: skip


def arrays() -> dict[str, Any]:
    found = {"positions.weight": np.zeros((3, 4), np.float32)}
    for norm in ("norm", "blocks.0.norm1", "blocks.0.norm2"):
        found |= {f"{norm}.weight": np.ones(4, np.float32), f"{norm}.bias": np.zeros(4, np.float32)}
    for name, shape in LAYER.items():
        found[f"blocks.0.{name}.weight"] = np.zeros(shape, np.float32)
        found[f"blocks.0.{name}.bias"] = np.zeros(shape[:1], np.float32)
    return found


def load(tensors: dict[str, Any], **changes: Any) -> TransformerEngine:
    return TransformerEngine.load({**CONFIG, **changes}, tensors, np.ones((5, 4), np.float32))


def test_the_plain_one_and_a_quantised_one_are_taken() -> None:
    load(arrays())
    tensors = arrays()
    tensors["blocks.0.up.weight"] = np.zeros((12, 4), np.int8)
    tensors["blocks.0.up.scale"] = np.zeros(12, np.float32)
    load(tensors)


@pytest.mark.parametrize("name", sorted(arrays()))
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[:-1], lambda a: a[..., :-1], lambda a: a[None], lambda a: a.astype(np.float64),
        lambda a: a.ravel()[:0],
    ],
    ids=["shorter", "narrower", "deeper", "other type", "empty"],
)  # fmt: skip
def test_misfits_are_refused(name: str, change: Callable[[Any], Any]) -> None:
    tensors = arrays()
    tensors[name] = change(tensors[name])
    with pytest.raises(BundleError, match="do not have the shape"):
        load(tensors)


@pytest.mark.parametrize("changes", [{"dim": 8}, {"heads": 3}, {"heads": 0}, {"max_length": 4}, {"block": "sasrec"}])
def test_another_configuration_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="do not have the shape"):
        load(arrays(), **changes)


@pytest.mark.parametrize("changes", [{"layers": 2}, {"block": "unheard of"}])
def test_missing_parts_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"blocks\.1\.down\.weight|unheard of"):
        load(arrays(), **changes)


def test_a_scale_that_does_not_fit_is_refused() -> None:
    tensors = arrays()
    tensors["blocks.0.up.weight"] = np.zeros((12, 4), np.int8)
    with pytest.raises(BundleError, match=r"up\.scale"):
        load(tensors)
    tensors["blocks.0.up.scale"] = np.zeros(11, np.float32)
    with pytest.raises(BundleError, match="do not have the shape"):
        load(tensors)
