"""The user tower of a two-tower model in NumPy: pooled item vectors and the user's attributes to a query vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, to_dict
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.index.vectors import ItemVectors, vectors_of
from leanrec.runtime.dense import make_dense
from leanrec.runtime.engines.arrays import Shape, chunks, named_misfits, read_config, refuse_misfits

__all__ = ["TowersEngine", "TowersShape"]

F32 = npt.NDArray[np.float32]


class TowersShape(Config, frozen=True, kw_only=True):
    """What the arrays do not say themselves."""

    pooling: Literal["mean", "attention"]
    window: int
    """The last events of a history that are looked at."""
    hidden: int


class TowersEngine:
    """x + W2 relu(W1 x + b1) + b2, where x is the pooled history and what the user's attributes add to it.

    tensors: `inner`, `outer` layers; for attention `look`, `weigh.weight` (1, D) and `ago_L`; `users` (U, D) where
    attributes of users are known. items: (N, D) vectors of the item tower.
    """

    kind: ClassVar[str] = "towers"

    def __init__(self, shape: TowersShape, tensors: Mapping[str, npt.NDArray[Any]], items: F32 | ItemVectors) -> None:
        self.shape, self._tensors, self.items = shape, dict(tensors), vectors_of(items)
        dim = self.items.shape[1]
        dense: dict[str, Shape] = {"inner": (shape.hidden, dim), "outer": (dim, shape.hidden)}
        plain: dict[str, Shape] = {"users": (len(tensors["users"]), dim)} if "users" in tensors else {}
        if shape.pooling == "attention":
            dense["look"] = (dim, dim)
            plain |= {"weigh.weight": (1, dim), "ago_L": (shape.window,)}
        with named_misfits():
            refuse_misfits(tensors, fits=shape.window > 0 and shape.hidden > 0, dense=dense, plain=plain)
        self._layers = {name: make_dense(self._tensors, name) for name in dense}
        self._users_UD: F32 = tensors.get("users", np.empty((0, dim), np.float32))

    @property
    def dim(self) -> int:
        return self.items.shape[1]

    @property
    def num_users(self) -> int:
        return len(self._users_UD)

    def answerable(self, queries: Queries) -> npt.NDArray[np.bool_]:
        """(B,) a history, or a user whose attributes are known."""
        known_B = queries.histories.lengths > 0
        return known_B if queries.users is None else known_B | self._inside(queries.users)

    def encode_queries(self, queries: Queries) -> F32:
        """(B, D) vectors; an unknown user adds nothing to the history, and an empty history nothing to the user."""
        pooled_BD = self._pool(queries.histories.last(self.shape.window))
        if queries.users is not None and self.num_users:
            inside_B = self._inside(queries.users)
            pooled_BD[inside_B] += self._users_UD[queries.users[inside_B]]
        hidden_BH = self._layers["inner"](pooled_BD)
        np.maximum(hidden_BH, 0, out=hidden_BH)
        return pooled_BD + self._layers["outer"](hidden_BH)

    def encode(self, histories: Jagged) -> F32:
        return self.encode_queries(Queries(histories, 1))

    def _inside(self, users_B: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        return (users_B >= 0) & (users_B < self.num_users)

    def _pool(self, histories: Jagged) -> F32:
        """(B, D) zeros for an empty history."""
        pooled_BD = np.zeros((len(histories), self.dim), np.float32)
        for start, stop in chunks(histories):
            some = histories.slice(start, stop)
            vectors_TD = self.items.gather(some.values)
            weights_T = self._weights(some, vectors_TD)
            filled = np.flatnonzero(some.lengths)
            if len(filled):
                starts = some.offsets[:-1][filled]
                pooled_BD[start + filled] = np.add.reduceat(vectors_TD * weights_T[:, None], starts, axis=0)
        return pooled_BD

    def _weights(self, histories: Jagged, vectors_TD: F32) -> F32:
        """(T,) what each event counts for; those of a history sum to 1."""
        owner_T, lengths_B = histories.row_of(), histories.lengths
        if self.shape.pooling == "mean":
            return np.asarray((1 / np.maximum(lengths_B, 1)).astype(np.float32)[owner_T])
        ago_T = histories.offsets[1:][owner_T] - np.arange(len(owner_T))
        raw_T = np.tanh(self._layers["look"](vectors_TD)) @ self._tensors["weigh.weight"][0]
        raw_T = raw_T + self._tensors["ago_L"][self.shape.window - ago_T]
        most_B = np.full(len(lengths_B), -np.inf, np.float32)
        np.maximum.at(most_B, owner_T, raw_T)
        power_T = np.exp(raw_T - most_B[owner_T])
        total_B = np.bincount(owner_T, weights=power_T, minlength=len(lengths_B))
        return np.asarray(power_T / total_B[owner_T], np.float32)

    def config(self) -> dict[str, Any]:
        return to_dict(self.shape)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return self._tensors

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: F32 | ItemVectors) -> Self:
        return cls(read_config(TowersShape, config), tensors, items)
