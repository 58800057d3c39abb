"""The contract of an index: the k items with the largest inner product with a query.

Every index that calls itself exact gives the same answer: scores are the inner product of the float32 rows summed in
float64 in order of dimension and rounded once to float32; equal scores go by rising item row. So ids do not depend on
the batch, on blocks, on threads, or on which exact index answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits

__all__ = ["Index"]


class Index(ABC):
    """Top-k by inner product over a table of item vectors.

    items_ND: (N, D) float32, C order, finite; may be mapped read-only. It is kept, not copied.
    """

    name: ClassVar[str]
    exact: ClassVar[bool]

    items_ND: npt.NDArray[np.float32]

    @classmethod
    @abstractmethod
    def build(cls, items_ND: npt.NDArray[np.float32]) -> Self:
        """Index a table."""

    @abstractmethod
    def search(
        self,
        queries_BD: npt.NDArray[np.float32],
        k: int,
        exclude: Jagged | None = None,
        allowed_N: npt.NDArray[np.bool_] | None = None,
    ) -> Hits:
        """The best k items of each query, never one of its `exclude` rows nor one that `allowed_N` forbids.

        Answers are (B, k); where fewer than k items remain, items are -1 and scores -inf.
        """

    @abstractmethod
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What has to be stored beside the table itself; `from_tensors` reads it back."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, items_ND: npt.NDArray[np.float32], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The index as it was stored, over the same table."""

    @property
    @abstractmethod
    def bytes_scanned(self) -> int:
        """Bytes that one query reads in the scan, rescoring apart."""
