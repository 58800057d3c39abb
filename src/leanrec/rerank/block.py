"""Items that are never answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError
from leanrec.core.nouns import Hits, Queries
from leanrec.rerank.base import Catalogue, Reranker, reordered
from leanrec.rerank.categories import matches

__all__ = ["Block", "BlockOptions"]


class BlockOptions(Config, frozen=True, kw_only=True):
    """Settings of a block list."""

    items: list[int | str] = msgspec.field(default_factory=list)
    """Their ids. Unknown ones are ignored: they cannot be answered."""
    column: str | None = None
    """An attribute whose `values` are blocked too."""
    values: list[str] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        if bool(self.values) != (self.column is not None):
            raise ValueError("column and values go together")
        if not self.items and self.column is None:
            raise ValueError("name items, or a column and its values")


class Block(Reranker):
    """Blocked items are not even candidates, so that lists stay as long as they were. allowed_N: (N,) bool."""

    kind: ClassVar[str] = "block"
    Options: ClassVar[type[Config]] = BlockOptions

    def __init__(self, allowed_N: npt.NDArray[np.bool_]) -> None:
        self.allowed_N = allowed_N

    @classmethod
    def fit(cls, options: Any, catalogue: Catalogue) -> Self:
        rows = catalogue.items.rows(options.items)
        allowed_N = np.ones(len(catalogue.items), np.bool_)
        allowed_N[rows[rows >= 0]] = False
        if options.column is not None:
            allowed_N &= ~matches(catalogue.column(options.column, "block"), options.values)
        if not allowed_N.any():
            raise ConfigError("block: every item is blocked, so nothing could be recommended: block fewer")
        return cls(allowed_N)

    def rerank(self, pool: Hits, queries: Queries, k: int) -> Hits:
        assert self.allowed_N is not None
        kept_BM = (pool.items_BK >= 0) & self.allowed_N[np.maximum(pool.items_BK, 0)]
        order_BM = np.argsort(~kept_BM, axis=1, kind="stable")
        return reordered(pool, np.where(np.take_along_axis(kept_BM, order_BM, axis=1), order_BM, -1))

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        assert self.allowed_N is not None
        return {"allowed": self.allowed_N.astype(np.uint8)}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: int) -> Self:
        if tensors["allowed"].shape != (items,):
            raise ValueError(f"a block list for another number than {items} items")
        return cls(tensors["allowed"].astype(np.bool_))
