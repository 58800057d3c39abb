"""A small transformer, and what a step is told about it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.compression.base import Work
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.index.exact import ExactIndex
from leanrec.models.popular import popular_fallback
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape
from leanrec.runtime.merging.fixed import ReciprocalRank
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.sources.hybrid import HybridSource

DIM, HEADS, LAYERS, HIDDEN, LENGTH = 16, 4, 3, 24, 8


@cache
def world() -> Dataset:
    """Users who walk through neighbouring items."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(150), 8)
    walk = (users * 7 + np.tile(np.arange(8), 150) + rng.integers(0, 3, len(users))) % 60
    frame = pl.DataFrame({"user_id": users, "item_id": walk, "timestamp": np.arange(len(users)) + 1.6e9})
    return prepare(frame, split="leave-one-out", repeats=True)


def work(**changes: Any) -> Work:
    """The world as a step sees it."""
    data = world()
    return Work(histories=data.cases("test").histories, data=data, **changes)


def arrays(block: str, positions: str = "learned") -> dict[str, npt.NDArray[Any]]:
    """A transformer at random, its dense layers far from full rank as those of trained ones are."""
    rng = np.random.default_rng(1)
    dense = {"attention.qkv": (3 * DIM, DIM), "attention.out": (DIM, DIM), "up": (HIDDEN, DIM), "down": (DIM, HIDDEN)}
    if block == "ligr":
        dense |= {"up": (2 * HIDDEN, DIM), "gate1": (DIM, DIM), "gate2": (DIM, DIM)}
    made: dict[str, npt.NDArray[Any]] = {}
    if positions == "learned":
        made["positions.weight"] = 0.2 * rng.standard_normal((LENGTH, DIM))
    for layer in range(LAYERS):
        for name, (outputs, inputs) in dense.items():
            low = rng.standard_normal((outputs, 3)) @ rng.standard_normal((3, inputs)) * 0.15
            made[f"blocks.{layer}.{name}.weight"] = low + 0.03 * rng.standard_normal((outputs, inputs))
            made[f"blocks.{layer}.{name}.bias"] = 0.1 * rng.standard_normal(outputs)
    for norm in ("norm", *(f"blocks.{layer}.norm{n}" for layer in range(LAYERS) for n in (1, 2))):
        made |= {f"{norm}.weight": np.ones(DIM), f"{norm}.bias": np.zeros(DIM)}
    return {name: array.astype(np.float32) for name, array in made.items()}


def transformer(block: str = "ligr", positions: Any = "learned") -> Recommender:
    """The small one."""
    data = world()
    table = np.random.default_rng(2).standard_normal((len(data.items), DIM), dtype=np.float32) * np.float32(0.3)
    shape = TransformerShape(
        block=block, dim=DIM, layers=LAYERS, heads=HEADS, max_length=LENGTH, positions=positions
    )  # fmt: skip
    engine = TransformerEngine(shape, arrays(block, positions), table)
    source = EmbeddingSource("small", engine, ExactIndex.build(table))
    return Recommender(source, data.items, repeats=True, fallback=popular_fallback(data))


def popular() -> Recommender:
    """One without an encoder."""
    data = world()
    return Recommender(popular_fallback(data), data.items, repeats=True)


def hybrid() -> Recommender:
    """The small one and popularity as one."""
    parts = (transformer().source, popular().source)
    source = HybridSource("hybrid", parts, ReciprocalRank(np.ones(2)), depth=10, repeats=True, rerankers=())
    return Recommender(source, world().items, repeats=True)
