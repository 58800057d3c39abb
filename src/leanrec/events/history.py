"""Histories of known users in a folder beside the bundle, mapped from disk.

`users.safetensors`, `items.safetensors` (Vocabulary.tensors()) and `histories.safetensors`: `items` int32 (T) rows of
`items.safetensors`, `offsets` int64 (users + 1), oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, InputError
from leanrec.core.files import atomic_folder, atomic_write, recover_folder
from leanrec.core.ids import Id, Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.tensors import map_tensors, serialize
from leanrec.events.base import HistoryStore

__all__ = ["FolderHistory"]


class FolderHistory(HistoryStore):
    """One row of item rows per user. Opening maps the files; ids are read when a user is first asked for."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        recover_folder(self.folder)
        if not (self.folder / "histories.safetensors").is_file():
            raise InputError(f"{self.folder} holds no histories: it should have been written beside the bundle")
        self._load()

    @classmethod
    def save(cls, folder: str | Path, users: Vocabulary, items: Vocabulary, histories: Jagged) -> Self:
        """Write row i of `histories` as the history of `users` row i; an older folder is replaced as a whole."""
        assert len(histories) == len(users), "one history per user"
        with atomic_folder(folder) as fresh:
            atomic_write(fresh / "users.safetensors", serialize(users.tensors()))
            atomic_write(fresh / "items.safetensors", serialize(items.tensors()))
            tensors: dict[str, npt.NDArray[Any]] = {"items": histories.values.astype(np.int32, copy=False)}
            tensors["offsets"] = histories.offsets
            atomic_write(fresh / "histories.safetensors", serialize(tensors))
        return cls(folder)

    def get(self, user_id: Id) -> Sequence[Id] | None:
        row = self._row(user_id)
        return None if row < 0 else self.item_vocabulary.ids(self.histories[row])

    def parse(self, text: str) -> Id:
        return self.user_vocabulary.parse(text)

    @cached_property
    def user_vocabulary(self) -> Vocabulary:
        """Ids of the users, by row of `histories`."""
        return Vocabulary.from_tensors(self._users)

    @cached_property
    def item_vocabulary(self) -> Vocabulary:
        """Ids of the items that `histories` holds rows of."""
        return Vocabulary.from_tensors(self._items)

    def users(self) -> list[Id]:
        erased = self.user_vocabulary.erased
        return [identity for identity, gone in zip(self.user_vocabulary.ids(), erased, strict=True) if not gone]

    def erase(self, user_id: Id) -> bool:
        """Remove a user: the folder is written anew without them, durable when it returns; whether they were there."""
        row = self._row(user_id)
        if row < 0:
            return False
        keep_T = np.ones(len(self.histories.values), dtype=np.bool_)
        keep_T[self.histories.offsets[row] : self.histories.offsets[row + 1]] = False
        users = self.user_vocabulary.without(self.user_vocabulary.ids([row]))
        self.save(self.folder, users, self.item_vocabulary, self.histories.where(keep_T))
        self._load()
        return True

    def _row(self, user_id: Id) -> int:
        return self.user_vocabulary.row(self.parse(user_id) if isinstance(user_id, str) else user_id)

    def _load(self) -> None:
        self._users, self._items, tensors = (
            map_tensors(self.folder / f"{name}.safetensors") for name in ("users", "items", "histories")
        )
        if not _fits(tensors, len(self._users.get("erased", ())), len(self._items.get("erased", ()))):
            raise BundleError(f"the histories in {self.folder} are damaged: write them again from the data set")
        self.histories = Jagged(tensors["items"], tensors["offsets"])
        for name in ("user_vocabulary", "item_vocabulary"):
            self.__dict__.pop(name, None)


def _fits(tensors: Mapping[str, npt.NDArray[Any]], users: int, items: int) -> bool:
    """Whether the arrays are one history per user, of rows of known items."""
    if set(tensors) != {"items", "offsets"}:
        return False
    offsets, values = tensors["offsets"], tensors["items"]
    return bool(
        offsets.dtype == np.int64
        and values.dtype == np.int32
        and (offsets.shape, values.ndim) == ((users + 1,), 1)
        and (offsets[0], offsets[-1]) == (0, len(values))
        and np.all(offsets[1:] >= offsets[:-1])
        and (not len(values) or (values.min() >= 0 and values.max() < items))
    )
