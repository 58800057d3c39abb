"""Product codes (Jégou et al. 2011, as RecJPQ uses them for item tables): M bytes a row, each naming one of 256 pieces.

The pieces of a split are found by k-means over the rows' values there, rows weighted by how much they matter. Values
are spread over the splits as they stand: put `low-rank` around for a basis in which that is a good idea. Rows differ in
length more than in shape, and a short row with the error of a long one is noise: so the pieces are of rows of length 1,
and one more byte names one of 256 lengths.
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
_BINS, _LLOYD = 2048, 20


class ProductConfig(Config, frozen=True, kw_only=True):
    """How codes are made."""

    code_bytes: int = 16
    """M, bytes a row."""
    scaled: bool = True
    """One more byte a row for its length."""
    rounds: int = 50
    """Of k-means."""
    seed: int = 0


class ProductVectors(ItemVectors):
    """codes_NM, and the pieces (M, 256, W) as bfloat16 bits; M * W is D or a little more.

    sizes_N, levels_S: which of the lengths (bfloat16 bits) a row has; where all have the same, sizes_N is one byte.
    """

    kind = "product"
    Options = ProductConfig

    def __init__(self, dim: int, codes_NM: U8, pieces_MCW: U16, sizes_N: U8 | None, levels_S: U16 | None) -> None:
        self._dim, self.codes_NM, self._halves_MCW, self._halves_S = dim, codes_NM, pieces_MCW, levels_S
        self.scaled = sizes_N is not None and levels_S is not None
        self.sizes_N: U8 = np.zeros(len(codes_NM), np.uint8) if sizes_N is None else sizes_N
        self.pieces_MCW = _wide(pieces_MCW)
        self.levels_S: F32 = np.ones(1, np.float32) if levels_S is None else _wide(levels_S)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.codes_NM), self._dim

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: F32 | None = None) -> F32:
        out = np.empty((len(rows), self._dim), np.float32) if out is None else out
        gather_codes(
            self.codes_NM, self.pieces_MCW, self.sizes_N, self.levels_S, rows.astype(np.int64, copy=False), out
        )
        return out

    def config(self) -> dict[str, Any]:
        return {"dim": self._dim}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        tensors: dict[str, npt.NDArray[Any]] = {"codes": self.codes_NM, "pieces": self._halves_MCW}
        if self._halves_S is not None:
            tensors |= {"sizes": self.sizes_N, "levels": self._halves_S}
        return tensors

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        dim, codes_NM, pieces_MCW = config["dim"], tensors["codes"], tensors["pieces"]
        refuse(type(dim) is int and dim > 0 and codes_NM.ndim == 2 and codes_NM.dtype == np.uint8, cls.kind)
        refuse(pieces_MCW.ndim == 3 and pieces_MCW.dtype == np.uint16, cls.kind)
        splits, count, width = pieces_MCW.shape
        refuse(codes_NM.shape[1] == splits > 0 and count == PIECES and width == -(-dim // splits), cls.kind)
        refuse((splits - 1) * width < dim, cls.kind)
        sizes_N, levels_S = tensors.get("sizes"), tensors.get("levels")
        if sizes_N is not None and levels_S is not None:
            refuse(sizes_N.shape == codes_NM.shape[:1] and sizes_N.dtype == np.uint8, cls.kind)
            refuse(levels_S.shape == (PIECES,) and levels_S.dtype == np.uint16, cls.kind)
        refuse((sizes_N is None) == (levels_S is None), cls.kind)
        halves = [pieces_MCW, *([] if levels_S is None else [levels_S])]
        refuse(all(bool(((half & 0x7F80) != 0x7F80).all()) for half in halves), cls.kind)  # no infinity, no NaN
        return cls(dim, codes_NM, pieces_MCW, sizes_N, levels_S)

    @classmethod
    def encode(cls, table_ND: F32, config: Config, weighting: Weighting | None = None) -> Self:
        assert isinstance(config, ProductConfig), "product codes are made as a ProductConfig says"
        dim = table_ND.shape[1]
        width = -(-dim // config.code_bytes) if config.code_bytes > 0 else 0
        if width == 0 or (config.code_bytes - 1) * width >= dim:
            raise ConfigError(f"{config.code_bytes} code bytes cannot share {dim} values: choose a divisor of {dim}")
        units_ND = _units(table_ND)[0] if config.scaled else table_ND
        parts_NMW = _parts(units_ND, config.code_bytes, width)
        weights_N = None if weighting is None else weighting.rows_N
        pieces_MCW = np.zeros((config.code_bytes, PIECES, width), np.float32)
        for m in range(config.code_bytes):
            found = _pieces(parts_NMW[:, m], weights_N, config)
            pieces_MCW[m, : len(found)] = found
        halves_MCW = nearest_bfloat16(pieces_MCW)
        codes_NM = np.zeros(parts_NMW.shape[:2], np.uint8)
        assign_codes(parts_NMW, _wide(halves_MCW), codes_NM)
        if not config.scaled:
            return cls(dim, codes_NM, halves_MCW, None, None)
        gains_N = cls(dim, codes_NM, halves_MCW, None, None)._gains(table_ND)
        levels_S = _levels(gains_N, np.ones(len(gains_N)) if weights_N is None else weights_N)
        return cls(dim, codes_NM, halves_MCW, _nearest_level(gains_N, levels_S), levels_S)

    def recoded(self, codes_NM: U8, pieces_MCW: F32) -> Self:
        """The same lengths with other codes and pieces."""
        halves_MCW = nearest_bfloat16(pieces_MCW)
        return type(self)(self._dim, codes_NM, halves_MCW, self.sizes_N if self.scaled else None, self._halves_S)

    def _gains(self, table_ND: F32) -> npt.NDArray[np.float64]:
        """(N,) the length of least squared error for each row as its pieces are."""
        gains_N = np.zeros(len(table_ND))
        for low, rows_nD in self.blocks():
            part = slice(low, low + len(rows_nD))
            right_n = np.einsum("nd,nd->n", rows_nD, table_ND[part], dtype=np.float64)
            gains_N[part] = right_n / np.maximum(np.einsum("nd,nd->n", rows_nD, rows_nD, dtype=np.float64), 1e-300)
        return np.maximum(gains_N, 0)

    def first(self, count: int) -> Self:
        sizes_N = self.sizes_N[:count] if self.scaled else None
        return type(self)(self._dim, self.codes_NM[:count], self._halves_MCW, sizes_N, self._halves_S)

    def added(self, rows_UD: F32) -> Self:
        if rows_UD.shape[1:] != (self._dim,):
            raise InputError(f"new item vectors have {rows_UD.shape[1:]} values instead of {self._dim}")
        splits, _, width = self.pieces_MCW.shape
        codes_UM = np.zeros((len(rows_UD), splits), np.uint8)
        units_UD = _units(rows_UD)[0] if self.scaled else rows_UD
        assign_codes(_parts(units_UD, splits, width), self.pieces_MCW, codes_UM)
        codes_NM = np.concatenate([self.codes_NM, codes_UM])
        if not self.scaled or self._halves_S is None:
            return type(self)(self._dim, codes_NM, self._halves_MCW, None, None)
        gains_U = type(self)(self._dim, codes_UM, self._halves_MCW, None, None)._gains(rows_UD)
        sizes_N = np.concatenate([self.sizes_N, _nearest_level(gains_U, self._halves_S)])
        return type(self)(self._dim, codes_NM, self._halves_MCW, sizes_N, self._halves_S)


def _wide(halves: U16) -> F32:
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _units(table_ND: F32) -> tuple[F32, npt.NDArray[np.float64]]:
    """(N, D) rows of length 1, and (N,) their lengths; a row of zeros stays one."""
    lengths_N = np.sqrt(np.einsum("nd,nd->n", table_ND, table_ND, dtype=np.float64))
    return (table_ND / np.maximum(lengths_N, 1e-30)[:, None]).astype(np.float32), lengths_N


def _levels(gains_N: npt.NDArray[np.float64], weights_N: npt.NDArray[np.float64]) -> U16:
    """(256,) 0, and lengths of least weighted squared error of their logarithms (Lloyd 1982).

    They start as dense as the cube root of the weight that lies there, which is best where it hardly changes from one
    to the next.
    """
    seen = gains_N > max(0.0, 1e-6 * float(gains_N.max(initial=0.0)))
    count = PIECES - 1
    if not seen.any():
        return nearest_bfloat16(np.concatenate([[0.0], np.ones(count)]).astype(np.float32))
    logs_n, weights_n = np.log(gains_N[seen]), np.maximum(weights_N[seen], 1e-6 * float(weights_N.max()) + 1e-300)
    edges = np.linspace(float(logs_n.min()) - 1e-6, float(logs_n.max()) + 1e-6, _BINS + 1)
    weight, _ = np.histogram(logs_n, edges, weights=weights_n)
    dense = np.concatenate([[0.0], np.cumsum(np.cbrt(weight + 1e-3 * weight.mean()))])
    levels_S = np.interp((np.arange(count) + 0.5) / count * dense[-1], dense, edges)
    for _ in range(_LLOYD):
        nearest_n = np.searchsorted((levels_S[1:] + levels_S[:-1]) / 2, logs_n)
        share_S = np.bincount(nearest_n, weights_n, count)
        sums_S = np.bincount(nearest_n, weights_n * logs_n, count)
        levels_S = np.where(share_S > 0, sums_S / np.maximum(share_S, 1e-300), levels_S)
    return nearest_bfloat16(np.concatenate([[0.0], np.exp(levels_S)]).astype(np.float32))


def _nearest_level(gains_N: npt.NDArray[np.float64], levels_S: U16) -> U8:
    levels = _wide(levels_S).astype(np.float64)
    after = np.clip(np.searchsorted(levels, gains_N), 1, PIECES - 1)
    return np.where(gains_N - levels[after - 1] < levels[after] - gains_N, after - 1, after).astype(np.uint8)


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
