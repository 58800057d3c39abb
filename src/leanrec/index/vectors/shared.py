"""Item vectors of which many items may share one: rows that matter keep their own, the rest one a cluster.

A map of two bytes a row (four where there are more than 65,536 vectors) names the vector that stands for it; the
vectors are kept in any other way. Which rows keep their own is decided by how much they matter (`Weighting.rows_N`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build
from leanrec.core.errors import ConfigError
from leanrec.index.vectors.base import F32, ItemVectors, Weighting, refuse

__all__ = ["SharedConfig", "SharedVectors"]

_NARROW = 1 << 16
_LEARN_FROM = 1 << 17


class SharedConfig(Config, frozen=True, kw_only=True):
    """Who shares, and how the vectors are kept."""

    own: float = 0.2
    """Part of the rows that keep a vector of their own, those that matter most."""
    clusters: int = 4096
    """Vectors that all other rows share, at most."""
    vectors: str = "int8"
    """The kind of the vectors."""
    vectors_options: dict[str, Any] = msgspec.field(default_factory=dict)
    """Its settings."""
    rounds: int = 10
    """Of k-means."""
    seed: int = 0


class SharedVectors(ItemVectors):
    """distinct: (C, D) item vectors of another kind. place_N: (N,) uint16 or uint32, the vector of each row."""

    kind = "shared"
    Options = SharedConfig

    def __init__(self, distinct: ItemVectors, place_N: npt.NDArray[Any]) -> None:
        self.distinct, self.place_N = distinct, place_N

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.place_N), self.distinct.shape[1]

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: F32 | None = None) -> F32:
        return self.distinct.gather(self.place_N[rows].astype(np.int64), out)

    def config(self) -> dict[str, Any]:
        return {"vectors": {"kind": self.distinct.kind, "config": self.distinct.config()}}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"place": self.place_N, **{f"vectors.{name}": array for name, array in self.distinct.tensors().items()}}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        from leanrec.index.vectors import VECTORS

        kept, place_N = config["vectors"], tensors["place"]
        own = {n.removeprefix("vectors."): array for n, array in tensors.items() if n.startswith("vectors.")}
        refuse(kept["kind"] != cls.kind and place_N.ndim == 1, cls.kind)
        refuse(place_N.dtype in (np.dtype(np.uint16), np.dtype(np.uint32)), cls.kind)
        distinct = VECTORS[kept["kind"]].from_tensors(kept["config"], own)
        refuse(not len(place_N) or int(place_N.max()) < len(distinct), cls.kind)
        return cls(distinct, place_N)

    def first(self, count: int) -> Self:
        return type(self)(self.distinct, self.place_N[:count])

    def added(self, rows_UD: F32) -> Self:
        """New rows have vectors of their own."""
        distinct = self.distinct.added(rows_UD)
        own_U = np.arange(len(self.distinct), len(distinct))
        return type(self)(distinct, np.concatenate([self.place_N, own_U]).astype(_places(len(distinct))))

    @classmethod
    def encode(cls, table_ND: F32, config: Config, weighting: Weighting | None = None) -> Self:
        from leanrec.index.vectors import VECTORS

        assert isinstance(config, SharedConfig), "shared vectors are made as a SharedConfig says"
        if not 0 <= config.own <= 1 or config.clusters < 1 or config.vectors == cls.kind:
            raise ConfigError(f"own is a part of the rows and clusters a number of vectors, not {config}")
        size = len(table_ND)
        weights_N = weighting.rows_N if weighting is not None and weighting.rows_N is not None else np.ones(size)
        order = np.argsort(-weights_N, kind="stable")
        own, others = order[: round(config.own * size)], order[round(config.own * size) :]
        centres_CD, cluster_of = _clusters(table_ND, others, weights_N, config)
        place_N = np.empty(size, _places(len(own) + len(centres_CD)))
        place_N[own], place_N[others] = np.arange(len(own)), len(own) + cluster_of
        kind = VECTORS[config.vectors]
        options = build(kind.Options, config.vectors_options, where=f"the settings of {config.vectors}")
        kept_CD = np.concatenate([table_ND[own], centres_CD])
        counts_C = np.bincount(place_N, weights=weights_N, minlength=len(kept_CD))
        return cls(kind.encode(kept_CD, options, Weighting(counts_C.astype(np.float64))), place_N)


def _places(vectors: int) -> type[np.unsignedinteger[Any]]:
    """The type of a map to so many vectors."""
    return np.uint16 if vectors <= _NARROW else np.uint32


def _clusters(
    table_ND: F32, others: npt.NDArray[np.int64], weights_N: npt.NDArray[np.float64], config: SharedConfig
) -> tuple[F32, npt.NDArray[np.int64]]:
    """(C, D) centres of the other rows, and which of them each belongs to."""
    if not len(others):
        return np.empty((0, table_ND.shape[1]), np.float32), np.empty(0, np.int64)
    from faiss import Kmeans

    rows_nD = np.ascontiguousarray(table_ND[others], np.float32)
    learn = np.arange(len(others))
    if len(learn) > _LEARN_FROM:
        learn = np.random.default_rng(config.seed).choice(learn, _LEARN_FROM, replace=False)
    count = min(config.clusters, len(learn))
    means = Kmeans(
        rows_nD.shape[1], count, niter=config.rounds, seed=config.seed + 1, min_points_per_centroid=1,
        max_points_per_centroid=_LEARN_FROM,
    )  # fmt: skip
    weights = np.maximum(weights_N[others][learn], 1e-6 * max(float(weights_N.max()), 1e-30)).astype(np.float32)
    means.train(rows_nD[learn], weights=weights)
    nearest = means.index.search(rows_nD, 1)[1][:, 0]
    return np.asarray(means.centroids, np.float32).reshape(count, -1), nearest.astype(np.int64)
