"""What a bundle takes of memory, part by part, once it serves: looked at in a fresh process that loads it and answers.

`python -m leanrec.jobs.footprint BUNDLE` prints one JSON line; `footprint` runs that.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.allocator import give_back
from leanrec.core.errors import MachineError
from leanrec.core.files import current_folder
from leanrec.core.jagged import Jagged
from leanrec.core.smaps import mappings, own_memory
from leanrec.kernels.blas import limit_blas
from leanrec.runtime.bundle import Bundle, open_bundle, resolve_bundle
from leanrec.runtime.packing import vocabulary
from leanrec.runtime.recommender import Recommender

__all__ = ["PARTS", "Footprint", "Part", "footprint"]

PARTS = ("weights", "codes", "ids", "attributes", "scratch", "program")
"""weights: arrays of decimal numbers. codes: arrays of whole numbers that stand for something (quantised weights,
indexes, lists of items). ids: of items and users, with the tables that find them. attributes: items.parquet. scratch:
what loading and answering made, beside all of these. program: the interpreter, its libraries, compiled loops."""
_BATCH, _TIMES, _LONGEST, _K = 64, 3, 50, 10
_IDS = ("ids", "users")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """bundle_bytes: of its arrays on disk. private: bytes in memory that every process needs for itself. shared:
    resident pages of files, which others that map the same file, or run the same program, use too.
    """

    name: str
    bundle_bytes: int
    private: int
    shared: int


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """One process that serves a bundle. The second one on the machine takes `private` more."""

    id: str
    parts: list[Part]

    @property
    def private(self) -> int:
        return sum(part.private for part in self.parts)

    @property
    def shared(self) -> int:
        return sum(part.shared for part in self.parts)


def footprint(bundle: str | Path) -> Footprint:
    """Account for a bundle on disk; BundleError where it is damaged or of another version, MachineError when the
    process that looks fails."""
    open_bundle(resolve_bundle(bundle))  # so that what is wrong is said as everywhere else
    command = [sys.executable, "-m", "leanrec.jobs.footprint", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise MachineError(f"accounting for {bundle} in a fresh process failed: {last[0]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Footprint)


def _look(bundle: str) -> Footprint:
    limit_blas(1)  # as a server does
    folder = resolve_bundle(bundle)
    _answer(Recommender.from_bundle(open_bundle(folder)))  # imports and compiled loops are the program's
    give_back()
    program = _anonymous()
    opened = open_bundle(folder)
    ids = [vocabulary(opened.tensors[stem]) for stem in _IDS if stem in opened.tensors]
    of_ids = max(_anonymous() - program, 0)
    del ids
    model = Recommender.from_bundle(opened)
    _answer(model)
    give_back()
    of_rest = max(_anonymous() - program - of_ids, 0)
    private = {"program": program, "ids": of_ids, "scratch": of_rest}
    stored, shared = _stored(opened), _shared(opened, str((current_folder(folder) or folder).resolve()))
    parts = [
        Part(name=name, bundle_bytes=stored.get(name, 0), private=private.get(name, 0), shared=shared.get(name, 0))
        for name in PARTS
    ]
    return Footprint(id=model.id, parts=parts)


def _answer(model: Recommender) -> None:
    """Batches and singles of histories at random, as long as most are."""
    rng = np.random.default_rng(0)
    if not len(model.items):
        return
    rows = [rng.integers(0, len(model.items), rng.integers(1, _LONGEST)).astype(np.int32) for _ in range(_BATCH)]
    histories = Jagged.from_rows(rows)
    for _ in range(_TIMES):
        model.rank(histories, _K)
    for row in range(_BATCH):
        model.rank(histories.slice(row, row + 1), _K)


def _anonymous() -> int:
    """Bytes of this process that no file holds."""
    return own_memory()["Anonymous"]


def _kinds(stem: str, tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
    """Bytes of a file's arrays by the part that they belong to."""
    found: dict[str, int] = {}
    for array in tensors.values():
        name = "ids" if stem in _IDS else "weights" if array.dtype.kind == "f" else "codes"
        found[name] = found.get(name, 0) + array.nbytes
    return found


def _stored(bundle: Bundle) -> dict[str, int]:
    total: dict[str, int] = {"attributes": 0 if bundle.items is None else len(bundle.items)}
    for stem, tensors in bundle.tensors.items():
        for name, size in _kinds(stem, tensors).items():
            total[name] = total.get(name, 0) + size
    return total


def _shared(bundle: Bundle, folder: str) -> dict[str, int]:
    """Resident bytes of files by part: pages that the system keeps once, however many processes map them.

    A file with arrays of two parts is divided by their bytes on disk.
    """
    total: dict[str, int] = {}
    for path, fields in mappings():
        if not path.startswith("/"):
            continue
        size = fields["Rss"] - fields["Anonymous"]  # pages that are the file's own
        stem = Path(path).name.removesuffix(".safetensors")
        if not path.startswith(f"{folder}/"):
            kinds = {"program": 1}
        elif stem in bundle.tensors:
            kinds = _kinds(stem, bundle.tensors[stem])
        else:
            kinds = {"attributes": 1}
        for name, count in kinds.items():
            total[name] = total.get(name, 0) + size * count // max(sum(kinds.values()), 1)
    return total


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(_look(sys.argv[1])).decode() + "\n")
