"""Encoders with made-up weights of any shape, as a bundle holds them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.runtime.engines.gru import GRUEngine, GRUShape
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape

ITEMS = 300
Positions = Literal["learned", "rotary", "none"]


class Draws:
    """Arrays of normal values, scaled to what a layer takes in."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(self, *shape: int, scale: float = 1.5) -> npt.NDArray[np.float32]:
        return (self.random.standard_normal(shape) * scale * shape[-1] ** -0.5).astype(np.float32)


def transformer(
    *, dim: int = 24, layers: int = 2, heads: int = 2, block: str = "ligr", positions: Positions = "learned",
    both_ways: bool = False, hidden: int = 50, window: int = 70, seed: int = 0,
) -> TransformerEngine:  # fmt: skip
    draw, gated = Draws(seed), block == "ligr"
    found: dict[str, Any] = {}
    norms = ["norm", *(f"blocks.{i}.norm{n}" for i in range(layers) for n in (1, 2))]
    for norm in norms:
        found |= {f"{norm}.weight": 1 + draw(dim, scale=0.1), f"{norm}.bias": draw(dim, scale=0.1)}
    for i in range(layers):
        sizes = {
            "attention.qkv": (3 * dim, dim), "attention.out": (dim, dim), "up": ((1 + gated) * hidden, dim),
            "down": (dim, hidden),
        } | ({"gate1": (dim, dim), "gate2": (dim, dim)} if gated else {})  # fmt: skip
        for name, size in sizes.items():
            found[f"blocks.{i}.{name}.weight"] = draw(*size)
            found[f"blocks.{i}.{name}.bias"] = draw(size[0], scale=0.1)
    if positions == "learned":
        found["positions.weight"] = draw(window, dim)
    if both_ways:
        found["mask_D"] = draw(dim)
    shape = TransformerShape(
        block=block, dim=dim, layers=layers, heads=heads, max_length=window, positions=positions,
        bidirectional=both_ways,
    )  # fmt: skip
    return TransformerEngine(shape, found, draw(ITEMS, dim))


def gru(*, dim: int = 12, hidden: int = 20, layers: int = 2, window: int = 40) -> GRUEngine:
    draw = Draws(5)
    found: dict[str, Any] = {"norm.weight": 1 + draw(dim), "norm.bias": draw(dim)}
    for i in range(layers):
        found[f"gru.weight_ih_l{i}"] = draw(3 * hidden, dim if i == 0 else hidden)
        found[f"gru.weight_hh_l{i}"] = draw(3 * hidden, hidden)
        found |= {f"gru.bias_{part}_l{i}": draw(3 * hidden) for part in ("ih", "hh")}
    found |= {"out.weight": draw(dim, hidden), "out.bias": draw(dim)}
    return GRUEngine(GRUShape(dim=dim, hidden=hidden, layers=layers, max_length=window), found, draw(ITEMS, dim))


def histories(lengths: list[int], seed: int = 1) -> Jagged:
    """Item rows of so many events each."""
    random = np.random.default_rng(seed)
    return Jagged.from_rows([random.integers(0, ITEMS, length) for length in lengths])
