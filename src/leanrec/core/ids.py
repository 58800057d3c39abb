"""External ids and the dense rows they stand for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError

__all__ = ["Id", "Vocabulary"]

Id = int | str


class Vocabulary:
    """External id <-> dense row. Rows never change: new ids are added at the end, an erased id leaves a tombstone.

    Ids are all whole numbers (kept as int64) or all text; they come back as they came in.
    """

    def __init__(
        self, ids: Sequence[Id] | npt.NDArray[Any] | _Texts, erased: npt.NDArray[np.bool_] | None = None
    ) -> None:
        if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
            self._ids: npt.NDArray[np.int64] | _Texts = ids.astype(np.int64)
        elif isinstance(ids, _Texts):
            self._ids = ids
        elif len(ids) and all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in ids):
            self._ids = np.asarray(ids, dtype=np.int64)
        else:
            self._ids = _Texts([_text(i) for i in ids])
        self.erased = np.zeros(len(ids), dtype=np.bool_) if erased is None else erased
        assert len(self.erased) == len(self._ids)

    @property
    def numeric(self) -> bool:
        """Whether ids are whole numbers."""
        return isinstance(self._ids, np.ndarray)

    def __len__(self) -> int:
        return len(self._ids)

    @cached_property
    def _rows(self) -> dict[Id, int]:
        ids: list[Any] = self._ids.tolist()
        rows = {identity: row for row, identity in enumerate(ids) if not self.erased[row]}
        if len(rows) != len(ids) - int(self.erased.sum()):
            raise InputError("the ids of a vocabulary must be distinct")
        return rows

    def row(self, identity: Id) -> int:
        """The row of one id, -1 when unknown or erased."""
        return self._rows.get(identity, -1)

    def rows(self, ids: Iterable[Id]) -> npt.NDArray[np.int32]:
        """The rows of many ids, -1 where unknown or erased."""
        if isinstance(ids, np.ndarray):
            ids = ids.tolist()
        get = self._rows.get
        return np.fromiter((get(i, -1) for i in ids), np.int32)

    def parse(self, text: str) -> Id:
        """The id that a piece of text (from a URL, JSON or the command line) stands for; unknown ones stay unknown."""
        if not self.numeric:
            return text
        try:
            return int(text)
        except ValueError:
            return text

    def ids(self, rows: npt.NDArray[np.integer] | Sequence[int] | None = None) -> list[Id]:
        """The ids of the given rows (of all when None)."""
        if isinstance(self._ids, np.ndarray):
            picked: list[Id] = (self._ids if rows is None else self._ids[np.asarray(rows, dtype=np.int64)]).tolist()
            return picked
        texts = self._ids.tolist()
        return list(texts) if rows is None else [texts[r] for r in rows]

    def taken(self, rows: npt.NDArray[np.integer]) -> Vocabulary:
        """The ids of the given rows, in this order, as a vocabulary of their own."""
        if isinstance(self._ids, np.ndarray):
            return Vocabulary(self._ids[rows], self.erased[rows])
        texts = self._ids.tolist()
        return Vocabulary([texts[row] for row in rows.tolist()], self.erased[rows])

    def extended(self, ids: Iterable[Id]) -> Vocabulary:
        """This vocabulary with the ids it does not know yet added at the end, in order of first appearance."""
        fresh = list(dict.fromkeys(i for i in ids if i not in self._rows))
        erased = np.concatenate([self.erased, np.zeros(len(fresh), dtype=np.bool_)])
        if not len(self):
            return Vocabulary(fresh, erased)
        if self.numeric and not all(isinstance(i, int) for i in fresh):
            raise InputError(f"ids are whole numbers here, but {fresh[0]!r} is text: convert the column first")
        return Vocabulary([*self.ids(), *fresh], erased)

    def without(self, ids: Iterable[Id]) -> Vocabulary:
        """This vocabulary with the given ids erased; their rows stay, empty, so that no other row moves."""
        erased = self.erased.copy()
        rows = self.rows(ids)
        erased[rows[rows >= 0]] = True
        if isinstance(self._ids, np.ndarray):
            kept = np.where(erased, np.int64(-1), self._ids)
            return Vocabulary(kept, erased)
        return Vocabulary(["" if gone else i for i, gone in zip(self._ids.tolist(), erased, strict=True)], erased)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays that `from_tensors` reads back: `ids`, or `bytes` and `offsets` of UTF-8 text; and `erased`."""
        erased = self.erased.astype(np.uint8)
        if isinstance(self._ids, np.ndarray):
            return {"ids": self._ids, "erased": erased}
        return {"bytes": self._ids.raw, "offsets": self._ids.offsets, "erased": erased}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> Vocabulary:
        """ValueError when `bytes` and `offsets` do not hold text."""
        erased = tensors["erased"].astype(np.bool_)
        if "ids" in tensors:
            return cls(tensors["ids"], erased)
        return cls(_Texts.stored(tensors["bytes"], tensors["offsets"]), erased)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.ids() == other.ids() and np.array_equal(self.erased, other.erased)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} ids)"


class _Texts:
    """Texts as Python has them or as they are stored; either is made of the other when first asked for."""

    def __init__(self, texts: list[str]) -> None:
        self._texts: list[str] | None = texts
        self._count = len(texts)

    @classmethod
    def stored(cls, raw: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> _Texts:
        if (
            offsets.ndim != 1
            or not len(offsets)
            or offsets[0]
            or offsets[-1] != len(raw)
            or (np.diff(offsets) < 0).any()
        ):
            raise ValueError("the offsets of texts do not cover their bytes")
        if len(raw) and int(raw.max()) > 127:
            raw.tobytes().decode("utf-8", "surrogatepass")
            starts = raw[offsets[:-1][np.diff(offsets) > 0]]
            if ((starts & 0xC0) == 0x80).any():
                raise ValueError("the offsets of texts cut a letter in two")
        texts = cls([])
        texts._texts, texts._count = None, len(offsets) - 1
        texts.raw, texts.offsets = raw, offsets
        return texts

    def __len__(self) -> int:
        return self._count

    def tolist(self) -> list[str]:
        """Not to be changed."""
        if self._texts is None:
            raw = self.raw.tobytes()
            pairs = itertools.pairwise(self.offsets.tolist())
            self._texts = [raw[low:high].decode("utf-8", "surrogatepass") for low, high in pairs]
        return self._texts

    @cached_property
    def raw(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer("".join(self.tolist()).encode("utf-8", "surrogatepass"), np.uint8)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum([len(text.encode("utf-8", "surrogatepass")) for text in self.tolist()], out=offsets[1:])
        return offsets


def _text(identity: object) -> str:
    if isinstance(identity, str):
        return identity
    raise InputError(f"an id must be text or a whole number, not {type(identity).__name__} {identity!r}")
