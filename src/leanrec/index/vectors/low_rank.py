"""Item vectors as factors in a basis: x = factors @ basis, the factors kept in any other way.

With R below D the least important directions are dropped; with R = D and product codes the basis is a rotation under
which the codes' splits carry about the same (parametric optimised product quantisation, Ge et al. 2013). Importance is
what the queries see: with their second moments M, the error e of a row costs e^T M e.
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
from leanrec.kernels.bfloat16 import nearest_bfloat16
from leanrec.kernels.product import expand_rows

__all__ = ["LowRankConfig", "LowRankVectors"]

F64 = npt.NDArray[np.float64]
_RIDGE = 1e-4


class LowRankConfig(Config, frozen=True, kw_only=True):
    """How many directions are kept, and how the factors are."""

    rank: int
    """R, at most D."""
    factors: str = "int8"
    """The kind of the (N, R) factors."""
    factors_options: dict[str, Any] = msgspec.field(default_factory=dict)
    """Its settings."""
    splits: int = 1
    """Directions are ordered so that this many equal parts of them carry the same; 1: the most important one first."""
    turned: bool = True
    """Directions may be any; else they are the single dimensions that matter most."""


class LowRankVectors(ItemVectors):
    """factors: (N, R) item vectors of another kind. basis_RD: (R, D) as bfloat16 bits."""

    kind = "low-rank"
    Options = LowRankConfig

    def __init__(self, factors: ItemVectors, basis_RD: npt.NDArray[np.uint16]) -> None:
        assert len(basis_RD) == factors.shape[1], "a row of the basis for each factor"
        self.factors, self._halves_RD = factors, basis_RD
        self.basis_RD: F32 = (basis_RD.astype(np.uint32) << 16).view(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.factors), self.basis_RD.shape[1]

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: F32 | None = None) -> F32:
        out = np.empty((len(rows), self.shape[1]), np.float32) if out is None else out
        expand_rows(self.factors.gather(rows), self.basis_RD, out)
        return out

    def config(self) -> dict[str, Any]:
        return {"factors": {"kind": self.factors.kind, "config": self.factors.config()}}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        inner = {f"factors.{name}": array for name, array in self.factors.tensors().items()}
        return {"basis": self._halves_RD, **inner}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        from leanrec.index.vectors import VECTORS

        kept, basis_RD = config["factors"], tensors["basis"]
        own = {n.removeprefix("factors."): array for n, array in tensors.items() if n.startswith("factors.")}
        refuse(kept["kind"] != cls.kind and basis_RD.ndim == 2 and basis_RD.dtype == np.uint16, cls.kind)
        factors = VECTORS[kept["kind"]].from_tensors(kept["config"], own)
        refuse(len(basis_RD) == factors.shape[1], cls.kind)
        refuse(bool(((basis_RD & 0x7F80) != 0x7F80).all()), cls.kind)  # no infinity, no NaN
        return cls(factors, basis_RD)

    @classmethod
    def encode(cls, table_ND: F32, config: Config, weighting: Weighting | None = None) -> Self:
        from leanrec.index.vectors import VECTORS

        assert isinstance(config, LowRankConfig), "low-rank vectors are made as a LowRankConfig says"
        dim = table_ND.shape[1]
        if not 0 < config.rank <= dim or config.factors == cls.kind:
            raise ConfigError(f"rank {config.rank} of {dim} values cannot be kept as {config.factors} factors")
        weighting = weighting or Weighting()
        kind = VECTORS[config.factors]
        basis_RD, onto_DR = _basis(table_ND, weighting, config)
        order = _spread(table_ND, onto_DR, weighting, config.splits)
        halves_RD = nearest_bfloat16(basis_RD[order].astype(np.float32))
        factors_NR = (table_ND.astype(np.float64) @ onto_DR[:, order]).astype(np.float32)
        options = build(kind.Options, config.factors_options, where=f"the settings of {config.factors}")
        return cls(kind.encode(factors_NR, options, Weighting(rows_N=weighting.rows_N)), halves_RD)

    def with_factors(self, factors: ItemVectors) -> Self:
        """The same basis with other factors."""
        return type(self)(factors, self._halves_RD)

    def seen_by(self, weighting: Weighting) -> Weighting:
        """What matters about the rows, as it is for their factors."""
        metric_DD, basis_RD = weighting.metric_DD, self.basis_RD.astype(np.float64)
        return Weighting(weighting.rows_N, None if metric_DD is None else basis_RD @ metric_DD @ basis_RD.T)

    def first(self, count: int) -> Self:
        return self.with_factors(self.factors.first(count))

    def added(self, rows_UD: F32) -> Self:
        onto_DR = np.linalg.pinv(self.basis_RD.astype(np.float64))
        return type(self)(self.factors.added((rows_UD @ onto_DR).astype(np.float32)), self._halves_RD)


def _moments(table_ND: F32, weighting: Weighting) -> F64:
    """(D, D) weighted second moments of the rows."""
    weights_N = np.ones(len(table_ND)) if weighting.rows_N is None else weighting.rows_N
    total_DD = np.zeros((table_ND.shape[1],) * 2)
    for low in range(0, len(table_ND), 1 << 16):
        rows_nD = table_ND[low : low + (1 << 16)].astype(np.float64)
        total_DD += (rows_nD * weights_N[low : low + (1 << 16), None]).T @ rows_nD
    return total_DD / max(float(weights_N.sum()), 1e-300)


def _basis(table_ND: F32, weighting: Weighting, config: LowRankConfig) -> tuple[F64, F64]:
    """(R, D) directions, the most important first, and (D, R) what takes a row to its factors.

    With S^2 the metric, rows x S are projected onto the leading eigenvectors V of their moments: basis = V^T S^-1.
    """
    moments_DD, dim, rank = _moments(table_ND, weighting), table_ND.shape[1], config.rank
    if not config.turned:
        seen_D = np.ones(dim) if weighting.metric_DD is None else np.diag(weighting.metric_DD)
        kept_RD = np.eye(dim)[np.sort(np.argsort(-np.diag(moments_DD) * seen_D, kind="stable")[:rank])]
        return kept_RD, kept_RD.T
    root_DD, inverse_DD = np.eye(dim), np.eye(dim)
    if weighting.metric_DD is not None:
        metric_DD = weighting.metric_DD + np.eye(dim) * max(_RIDGE * float(np.trace(weighting.metric_DD)) / dim, 1e-30)
        values_D, vectors_DD = np.linalg.eigh(metric_DD)
        root_DD = (vectors_DD * np.sqrt(values_D)) @ vectors_DD.T
        inverse_DD = (vectors_DD / np.sqrt(values_D)) @ vectors_DD.T
    _, directions_DD = np.linalg.eigh(root_DD @ moments_DD @ root_DD)
    kept_DR = directions_DD[:, ::-1][:, :rank]
    return kept_DR.T @ inverse_DD, root_DD @ kept_DR


def _spread(table_ND: F32, onto_DR: F64, weighting: Weighting, splits: int) -> npt.NDArray[np.int64]:
    """(R,) an order of the directions in which `splits` equal parts have about the same product of variances."""
    rank = onto_DR.shape[1]
    if splits <= 1:
        return np.arange(rank)
    variance_R = np.einsum("dr,de,er->r", onto_DR, _moments(table_ND, weighting), onto_DR)
    room = -(-rank // splits)
    parts: list[list[int]] = [[] for _ in range(splits)]
    logs = np.zeros(splits)
    for r in np.argsort(-variance_R, kind="stable"):
        open_parts = [s for s in range(splits) if len(parts[s]) < min(room, rank - s * room)]
        part = min(open_parts, key=lambda s: (logs[s], s))
        parts[part].append(int(r))
        logs[part] += float(np.log(max(variance_R[r], 1e-300)) - np.log(max(variance_R.min(), 1e-300)))
    return np.array([r for part in parts for r in part], np.int64)
