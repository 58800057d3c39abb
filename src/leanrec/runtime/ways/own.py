"""Our own ways: the engine as it is, and the whole encoder in one compiled call."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.index.vectors import Float32Vectors
from leanrec.runtime.engines.arrays import chunks
from leanrec.runtime.engines.packed import PackedTransformer
from leanrec.runtime.engines.sequence import SequenceEngine
from leanrec.runtime.ways.base import Way, refuse_kind

__all__ = ["FixedWay", "PackedWay", "PlainWay"]

F32 = npt.NDArray[np.float32]


class PlainWay(Way):
    """`Engine.encode`."""

    name: ClassVar[str] = "plain"

    def encode(self, histories: Jagged) -> F32:
        return self.engine.encode(histories)


class PackedWay(Way):
    """kernels.encoding in float32."""

    name: ClassVar[str] = "packed"
    fixed: ClassVar[bool] = False

    def __init__(self, engine: SequenceEngine[Any], threads: int) -> None:
        super().__init__(engine, threads)
        refuse_kind(engine, self.name, ("transformer",))
        self._net = PackedTransformer(engine.shape, engine.tensors(), fixed=self.fixed, threads=threads)
        self._items_ND: F32 | None = None
        if isinstance(engine.items, Float32Vectors):  # others are decoded as they are read
            self._items_ND = np.ascontiguousarray(engine.items_ND).view()
            self._items_ND.flags.writeable = False

    def encode(self, histories: Jagged) -> F32:
        result = np.empty((len(histories), self.engine.dim), np.float32)
        for start, stop in chunks(histories):
            some, items_ND = histories.slice(start, stop), self._items_ND
            if items_ND is None:
                items_ND = self.engine.items.gather(some.values)
                items_ND.flags.writeable = False
                some = Jagged(np.arange(len(some.values)), some.offsets)
            result[start:stop] = self._net.encode(items_ND, some)
        return result


class FixedWay(PackedWay):
    """kernels.encoding with products in int16 fixed point."""

    name: ClassVar[str] = "fixed"
    exact: ClassVar[bool] = False
    fixed: ClassVar[bool] = True
