"""Product-quantised rows: an item is a code of a few bytes, and only the sub-vectors behind the codes are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.nn.tables.base import ArrangedTable, Rows, State, TableOptions
from leanrec.nn.tables.composed import ComposedTable, hashed_rows

__all__ = ["ProductQuantisedTable", "svd_codes"]

_CODES = 256


class ProductQuantisedOptions(TableOptions, frozen=True, kw_only=True):
    """Settings of a product-quantised table."""

    splits: int = 8
    """Bytes of an item's code, a divisor of D."""
    codes: str = "svd"
    """`svd`: from who interacted with what, where the table is given that; `random`."""


class ProductQuantisedTable(ComposedTable, ArrangedTable):
    """Row r is `splits` sub-vectors of D / splits values end to end, each one of 256 (RecJPQ, arXiv:2312.06165).

    Codes are drawn from the seed until `arrange` takes them from the data, and stay as they are: training moves the
    sub-vectors. N rows cost N x splits bytes.
    """

    Options = ProductQuantisedOptions
    config: ProductQuantisedOptions

    def __init__(self, num_rows: int, dim: int, config: ProductQuantisedOptions, *, seed: int) -> None:
        if dim % config.splits or config.codes not in ("svd", "random"):
            raise ConfigError(
                f"table_options: splits={config.splits} must divide dim={dim}, and codes={config.codes!r} must be "
                "'svd' or 'random'"
            )
        super().__init__(num_rows, dim, config, seed=seed)
        self._codes = self._random(0, num_rows)

    def arrange(self, sequences: Jagged) -> None:
        """Codes by the items' users. The table must be fresh."""
        if self.config.codes == "svd":
            self._codes = svd_codes(sequences, self.num_rows, self.config.splits, seed=self.seed)

    def _random(self, low: int, high: int) -> npt.NDArray[np.uint8]:
        rows = np.arange(low, high, dtype=np.int32)
        return hashed_rows(rows, self.config.splits, _CODES, self.seed).astype(np.uint8)

    def _sizes(self) -> dict[str, tuple[int, int, float]]:
        return {"centroids": (self.config.splits * _CODES, self.dim // self.config.splits, self.std)}

    def _parts(self, rows_U: Rows) -> dict[str, Rows]:
        return {"centroids": self._codes[rows_U] + _CODES * np.arange(self.config.splits, dtype=np.int32)}

    def _compose(self, parts: Mapping[str, Tensor]) -> Tensor:
        return parts["centroids"].reshape(len(parts["centroids"]), self.dim)

    def _extra_bytes(self) -> int:
        return self._codes.nbytes

    def _grow_layout(self, num_rows: int) -> None:
        self._codes = np.concatenate([self._codes, self._random(self.num_rows, num_rows)])

    def _layout(self) -> State:
        return {"codes": self._codes}

    def _load_layout(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self._codes[:] = state["codes"]


def svd_codes(sequences: Jagged, num_items: int, splits: int, *, seed: int) -> npt.NDArray[np.uint8]:
    """(N, splits) codes: the items' leading right singular vectors of users x items, each cut into 256 quantiles.

    Items that nobody has, and ties, are spread evenly by chance.
    """
    users, values = len(sequences), np.ascontiguousarray(sequences.values, np.int64)
    where = np.stack([np.repeat(np.arange(users), sequences.lengths), values])
    matrix = torch.sparse_coo_tensor(
        torch.from_numpy(where), torch.ones(len(values)), (users, num_items), check_invariants=True
    ).coalesce()
    matrix.values().fill_(1.0)
    rank = min(splits, users, num_items)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vectors_NS = torch.svd_lowrank(matrix, q=rank, niter=4)[2].numpy()
    random = np.random.default_rng(seed)
    codes = np.empty((num_items, splits), np.uint8)
    for split in range(splits):
        value_N = vectors_NS[:, split] if split < rank else np.zeros(num_items, np.float32)
        order = np.lexsort((random.random(num_items), value_N))
        codes[order, split] = np.arange(num_items) * _CODES // num_items
    return codes
