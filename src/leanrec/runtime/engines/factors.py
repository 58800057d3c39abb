"""Factor models: the vector of a known user as it was trained, and anyone else's from their history, without training.

A history counts as its distinct items. Three ways to fold it in (`FactorsConfig.fold`):

- `mean`: n^-power times the sum of the items' rows of an input table (the item table itself unless another is given),
  as graph convolutions and averaged histories are.
- `ridge`: the minimiser of the implicit least squares that the item factors were trained with (Hu et al. 2008, eq. 4;
  Rendle et al. 2022, "Revisiting the performance of iALS", eq. 1 and 2): sum over the history of (u.x - 1)^2 + sum_d
  spectrum_d u_d^2 + regularisation * (n + spread)^exponent * |u|^2. The item table stands in the basis of the
  eigenvectors of its Gram matrix, `spectrum` is the unobserved weight times its eigenvalues: there all but the
  history's own part is diagonal, and a solve costs n^2 D instead of D^3.
- `ratings`: a history without ratings against rating factors: every item is taken as rated `liking` above what is
  expected of it. The last two columns of the item table are the item's bias and a constant, which makes a user's bias
  one more coordinate of the ridge regression; the last two of a user are 1 and what the constant is multiplied with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build, to_dict
from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.data.cases import distinct
from leanrec.index.vectors import VECTORS, Float32Vectors, ItemVectors, vectors_of
from leanrec.kernels.fold import fold_mean, fold_ridge
from leanrec.runtime.engines.arrays import Shape, chunks, named_misfits, read_config, refuse_misfits

__all__ = ["FactorsConfig", "FactorsEngine"]

F32 = npt.NDArray[np.float32]


class FactorsConfig(Config, frozen=True, kw_only=True):
    """How a history becomes a vector; each way reads only what concerns it."""

    fold: Literal["mean", "ridge", "ratings"]
    power: float = 1.0
    """mean: the sum is divided by this power of the number of items."""
    regularisation: float = 0.0
    """ridge, ratings: weight of |u|^2."""
    spread: float = 0.0
    """ridge: added to the number of items before the exponent: the unobserved weight times all items."""
    exponent: float = 0.0
    """ridge, ratings: how the regularisation grows with the number of items."""
    liking: float = 0.0
    """ratings: how far above the expected rating every item of a bare history is taken to be."""
    mean: float = 0.0
    """ratings: the mean rating over the constant: what the constant is multiplied with for a user without a bias."""
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)
    """mean: `kind` and `config` of an input table that is not kept as float32; its arrays are named `inputs.NAME`."""

    def __post_init__(self) -> None:
        if self.fold != "mean" and not self.regularisation > 0:
            raise ValueError(f"regularisation must be above 0, not {self.regularisation}")


class FactorsEngine:
    """(B, D) vectors of users; items: (N, D) the item vectors that they are multiplied with.

    tensors: `users` (U, D) the vectors of known users, a row of zeros where nothing was learned of one; `inputs`
    (N, D) for `mean`; `spectrum` (D,) for `ridge`. All float32, the first two may be left out; inputs may also be
    `inputs.NAME`, the arrays of item vectors of another kind.
    """

    kind: ClassVar[str] = "factors"

    def __init__(
        self, config: FactorsConfig, tensors: Mapping[str, npt.NDArray[Any]], items: F32 | ItemVectors
    ) -> None:
        self._config, self._tensors, self.items = config, dict(tensors), vectors_of(items)
        dim = self.items.shape[1]
        plain: dict[str, Shape] = {"spectrum": (dim,)} if config.fold == "ridge" else {}
        if "inputs" in tensors:
            plain["inputs"] = self.items.shape
        if "users" in tensors:
            plain["users"] = (len(tensors["users"]), dim)
        with named_misfits():
            refuse_misfits(tensors, fits=dim > 2 or config.fold != "ratings", dense={}, plain=plain)
        self._inputs = self._read_inputs()
        self._users_UD: F32 = tensors.get("users", np.empty((0, dim), np.float32))

    def _read_inputs(self) -> ItemVectors:
        if not self._config.inputs:
            return vectors_of(self._tensors["inputs"]) if "inputs" in self._tensors else self.items
        own = {n.removeprefix("inputs."): array for n, array in self._tensors.items() if n.startswith("inputs.")}
        with named_misfits():
            found = VECTORS[self._config.inputs["kind"]].from_tensors(self._config.inputs["config"], own)
        if found.shape != self.items.shape:
            raise BundleError(f"the input vectors are {found.shape}, the item vectors {self.items.shape}")
        return found

    @property
    def inputs(self) -> ItemVectors | None:
        """What histories are folded in from, where that is not the item vectors themselves."""
        return None if self._inputs is self.items else self._inputs

    def with_inputs(self, inputs: ItemVectors, items: ItemVectors) -> Self:
        """The same users and way of folding over other vectors."""
        kept = {n: array for n, array in self._tensors.items() if n != "inputs" and not n.startswith("inputs.")}
        kept |= {f"inputs.{name}": array for name, array in inputs.tensors().items()}
        told = {**to_dict(self._config), "inputs": {"kind": inputs.kind, "config": inputs.config()}}
        return type(self)(build(FactorsConfig, told), kept, items)

    @property
    def dim(self) -> int:
        return self.items.shape[1]

    @property
    def num_users(self) -> int:
        return len(self._users_UD)

    def knows(self, users_B: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Rows beyond the table, and rows of zeros, are users that nothing was learned of."""
        inside_B = (users_B >= 0) & (users_B < self.num_users)
        inside_B[inside_B] = self._users_UD[users_B[inside_B]].any(axis=1)
        return inside_B

    def encode_users(self, users_B: npt.NDArray[np.int32]) -> F32:
        return np.asarray(self._users_UD[users_B])

    def encode(self, histories: Jagged) -> F32:
        assert len(histories) == 0 or histories.lengths.min() > 0, "an encoder gets non-empty histories"
        items = distinct(histories)
        result = np.zeros((len(items), self.dim), np.float32)
        for start, stop in chunks(items):
            self._fold(items.slice(start, stop), result[start:stop])
        return result

    def _fold(self, items: Jagged, result: F32) -> None:
        if self._config.fold == "mean":
            rows, table_ND = _readable(self._inputs, items)
            fold_mean(rows.offsets, rows.values, table_ND, self._config.power, result)
        elif self._config.fold == "ridge":
            spectrum_D = self._tensors["spectrum"].astype(np.float64)
            self._fold_ridge(*_readable(self.items, items), spectrum_D, np.ones(len(items.values)), result)
        else:
            self._fold_ratings(items, result)

    def _fold_ratings(self, items: Jagged, result: F32) -> None:
        """Taste and bias by ridge regression on `liking`; the item table's bias column plays no part in it."""
        tastes_ND = np.delete(self.items.gather(items.values), -2, axis=1)
        own = Jagged(np.arange(len(items.values), dtype=np.int32), items.offsets)
        found_BD = np.empty((len(items), self.dim - 1), np.float32)
        targets_T = np.full(len(items.values), self._config.liking)
        self._fold_ridge(own, tastes_ND, np.zeros(self.dim - 1), targets_T, found_BD)
        result[:, :-2], result[:, -2] = found_BD[:, :-1], 1.0
        result[:, -1] = found_BD[:, -1] + np.float32(self._config.mean)

    def _fold_ridge(
        self, items: Jagged, table_ND: F32, spectrum_D: npt.NDArray[np.float64], targets_T: npt.NDArray[np.float64],
        out_BD: F32,
    ) -> None:  # fmt: skip
        config = self._config
        weights_B: npt.NDArray[np.float64] = (
            config.regularisation * (items.lengths.astype(np.float64) + config.spread) ** config.exponent
        )
        rows_T = items.values.astype(np.int32, copy=False)
        fold_ridge(items.offsets, rows_T, targets_T, table_ND, spectrum_D, weights_B, out_BD)

    def config(self) -> dict[str, Any]:
        return to_dict(self._config)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return self._tensors

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], items: F32 | ItemVectors) -> Self:
        return cls(read_config(FactorsConfig, config), tensors, items)


def _readable(vectors: ItemVectors, items: Jagged) -> tuple[Jagged, F32]:
    """Histories as int32 rows of a float32 table: of the whole one where there is one, else of their own rows."""
    if isinstance(vectors, Float32Vectors):
        return Jagged(items.values.astype(np.int32, copy=False), items.offsets), vectors.table_ND
    return Jagged(np.arange(len(items.values), dtype=np.int32), items.offsets), vectors.gather(items.values)
