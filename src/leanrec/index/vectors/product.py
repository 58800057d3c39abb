"""Product codes (Jégou et al. 2011, as RecJPQ uses them for item tables): M bytes a row, each naming one of 256 pieces.

The pieces of a split are found by k-means over the rows' values there, rows weighted by how much they matter. Values
are spread over the splits as they stand: put `low-rank` around for a basis in which that is a good idea.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.errors import ConfigError, InputError
from leanrec.index.vectors.base import F32, ItemVectors, Weighting, refuse
from leanrec.kernels.bfloat16 import nearest_bfloat16
from leanrec.kernels.product import assign_codes, gather_codes

__all__ = ["PIECES", "ProductConfig", "ProductVectors"]

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
PIECES = 256
_LEARN_FROM = 1 << 17


class ProductConfig(Config, frozen=True, kw_only=True):
    """How codes are made."""

    code_bytes: int = 16
    """M, bytes a row."""
    rounds: int = 25
    """Of k-means."""
    seed: int = 0


class ProductVectors(ItemVectors):
    """codes_NM, and the pieces (M, 256, W) as bfloat16 bits; M * W is D or a little more."""

    kind = "product"
    Options = ProductConfig

    def __init__(self, dim: int, codes_NM: U8, pieces_MCW: U16) -> None:
        self._dim, self.codes_NM, self._halves_MCW = dim, codes_NM, pieces_MCW
        self.pieces_MCW: F32 = (pieces_MCW.astype(np.uint32) << 16).view(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.codes_NM), self._dim

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: F32 | None = None) -> F32:
        out = np.empty((len(rows), self._dim), np.float32) if out is None else out
        gather_codes(self.codes_NM, self.pieces_MCW, rows.astype(np.int64, copy=False), out)
        return out

    def config(self) -> dict[str, Any]:
        return {"dim": self._dim}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {"codes": self.codes_NM, "pieces": self._halves_MCW}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        dim, codes_NM, pieces_MCW = config["dim"], tensors["codes"], tensors["pieces"]
        refuse(type(dim) is int and dim > 0 and codes_NM.ndim == 2 and codes_NM.dtype == np.uint8, cls.kind)
        refuse(pieces_MCW.ndim == 3 and pieces_MCW.dtype == np.uint16, cls.kind)
        splits, count, width = pieces_MCW.shape
        refuse(codes_NM.shape[1] == splits > 0 and count == PIECES and width == -(-dim // splits), cls.kind)
        refuse((splits - 1) * width < dim, cls.kind)
        refuse(bool(((pieces_MCW & 0x7F80) != 0x7F80).all()), cls.kind)  # no infinity, no NaN
        return cls(dim, codes_NM, pieces_MCW)

    @classmethod
    def encode(cls, table_ND: F32, config: Config, weighting: Weighting | None = None) -> Self:
        assert isinstance(config, ProductConfig), "product codes are made as a ProductConfig says"
        dim = table_ND.shape[1]
        width = -(-dim // config.code_bytes) if config.code_bytes > 0 else 0
        if width == 0 or (config.code_bytes - 1) * width >= dim:
            raise ConfigError(f"{config.code_bytes} code bytes cannot share {dim} values: choose a divisor of {dim}")
        parts_NMW = _parts(table_ND, config.code_bytes, width)
        weights_N = None if weighting is None else weighting.rows_N
        pieces_MCW = np.zeros((config.code_bytes, PIECES, width), np.float32)
        for m in range(config.code_bytes):
            found = _pieces(parts_NMW[:, m], weights_N, config)
            pieces_MCW[m, : len(found)] = found
        return cls.assigned(dim, parts_NMW, pieces_MCW)

    @classmethod
    def assigned(cls, dim: int, parts_NMW: F32, pieces_MCW: F32) -> Self:
        """Every row's nearest pieces, after the pieces were rounded."""
        halves_MCW = nearest_bfloat16(pieces_MCW)
        codes_NM = np.zeros(parts_NMW.shape[:2], np.uint8)
        assign_codes(parts_NMW, (halves_MCW.astype(np.uint32) << 16).view(np.float32), codes_NM)
        return cls(dim, codes_NM, halves_MCW)

    def added(self, rows_UD: F32) -> Self:
        if rows_UD.shape[1:] != (self._dim,):
            raise InputError(f"new item vectors have {rows_UD.shape[1:]} values instead of {self._dim}")
        splits, _, width = self.pieces_MCW.shape
        codes_UM = np.zeros((len(rows_UD), splits), np.uint8)
        assign_codes(_parts(rows_UD, splits, width), self.pieces_MCW, codes_UM)
        return type(self)(self._dim, np.concatenate([self.codes_NM, codes_UM]), self._halves_MCW)


def _parts(table_ND: F32, splits: int, width: int) -> F32:
    """(N, M, W), padded with zeros."""
    size, dim = table_ND.shape
    if dim == splits * width:
        return np.ascontiguousarray(table_ND, np.float32).reshape(size, splits, width)
    padded = np.zeros((size, splits * width), np.float32)
    padded[:, :dim] = table_ND
    return padded.reshape(size, splits, width)


def _pieces(part_NW: F32, weights_N: npt.NDArray[np.float64] | None, config: ProductConfig) -> F32:
    """At most 256 centres."""
    from faiss import Kmeans

    rows = np.arange(len(part_NW))
    if weights_N is not None:
        rows = rows[weights_N > 0] if (weights_N > 0).sum() >= PIECES else rows
    if len(rows) > _LEARN_FROM:
        rows = np.random.default_rng(config.seed).choice(rows, _LEARN_FROM, replace=False)
    count = min(PIECES, len(rows))
    if not count:
        return np.zeros((0, part_NW.shape[1]), np.float32)
    means = Kmeans(
        part_NW.shape[1], count, niter=config.rounds, seed=config.seed + 1, min_points_per_centroid=1,
        max_points_per_centroid=_LEARN_FROM,
    )  # fmt: skip
    weights = None if weights_N is None else np.maximum(weights_N[rows], 1e-6 * weights_N.max()).astype(np.float32)
    means.train(np.ascontiguousarray(part_NW[rows]), weights=weights)
    return np.asarray(means.centroids, np.float32)
