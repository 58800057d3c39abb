"""Vectors of texts that were encoded before, on disk by what they are made of: encoder and text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.core.files import atomic_file
from leanrec.core.tensors import map_tensors, write_tensors
from leanrec.data.download import cache_folder

__all__ = ["VectorCache"]

F32 = npt.NDArray[np.float32]
_KEY_BYTES = 16


class VectorCache:
    """One folder for each encoder (its content, not its name); every addition is a file of its own.

    A text is known by the SHA-256 of its bytes, so that a new item costs one text and an edited one too. Two processes
    that add at once write two files; a file that is damaged is ignored, and its texts are encoded again.
    """

    def __init__(self, encoder: str, root: Path | None = None) -> None:
        """encoder: what decides the vector of a text, as a hexadecimal digest. root: by default in the user's cache."""
        self.folder = (root or cache_folder() / "texts") / encoder[:32]
        self._places: dict[bytes, tuple[int, int]] = {}
        self._files: list[F32] = []
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                arrays = map_tensors(path)
                self._take(arrays["keys"], arrays["vectors"])
            except (BundleError, KeyError, OSError):
                continue

    def __len__(self) -> int:
        return len(self._places)

    def vectors(self, texts: Sequence[str], encode: Callable[[Sequence[str]], F32]) -> F32:
        """(N, E) float32, encoding and keeping those that are not there. `encode` gets distinct texts, once."""
        keys = [_key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._places}
        if missing:
            self._add(list(missing), np.ascontiguousarray(encode(list(missing.values())), np.float32))
        if not keys:
            return np.empty((0, 0), np.float32)
        places = [self._places[key] for key in keys]
        result = np.empty((len(keys), self._files[places[0][0]].shape[1]), np.float32)
        for at, (file, row) in enumerate(places):
            result[at] = self._files[file][row]
        return result

    def _add(self, keys: list[bytes], vectors: F32) -> None:
        packed = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), _KEY_BYTES)
        name = hashlib.sha256(packed.tobytes()).hexdigest()[:24]
        with atomic_file(self.folder / f"{name}.safetensors") as file:
            write_tensors(file, {"keys": packed, "vectors": vectors})
        self._take(packed, vectors)

    def _take(self, keys: npt.NDArray[np.uint8], vectors: F32) -> None:
        if keys.ndim != 2 or keys.shape != (len(vectors), _KEY_BYTES) or vectors.dtype != np.float32:
            raise BundleError("keys and vectors do not fit together")
        raw, file = keys.tobytes(), len(self._files)
        self._files.append(vectors)
        for row in range(len(keys)):
            self._places[raw[row * _KEY_BYTES : (row + 1) * _KEY_BYTES]] = (file, row)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]
