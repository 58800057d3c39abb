"""Labelled rows as a folder of Parquet files: written and read back in a stream, a few files in memory at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.files import atomic_folder, current_folder
from leanrec.data.examples.base import PARTS, Examples, Part, Side, evenly
from leanrec.data.frames import POLARS_ERRORS, first_line
from leanrec.data.parquet import check_parquet
from leanrec.data.report import ColumnReport, Report

__all__ = ["StoredExamples", "holds_examples", "write_examples"]

FORMAT = 1
_HEADER = "examples.json"
_MIXED = 4
"""Files whose rows are shuffled among each other."""
_SAMPLED = 8
"""Files that a sample is taken from, at most."""


class _File(msgspec.Struct):
    name: str
    rows: int
    sha256: str


class _Header(msgspec.Struct, kw_only=True):
    format: int
    name: str
    labels: tuple[str, ...]
    kinds: dict[str, str]
    files: dict[str, list[_File]]
    rate: float = 1.0
    report: Report


def holds_examples(path: str | Path) -> bool:
    """Whether a folder was written by `write_examples`."""
    return ((current_folder(path) or Path(path)) / _HEADER).exists()


class StoredExamples(Examples):
    """See `write_examples`. Nothing is known of users and items by rows: every column describes the moment."""

    def __init__(self, path: Path, header: _Header) -> None:
        self.path, self.name, self.labels, self.kinds = path, header.name, header.labels, header.kinds
        self.report, self._files, self.rate = header.report, header.files, header.rate
        digests = "".join(file.sha256 for part in PARTS for file in header.files.get(part, []))
        self.fingerprint = hashlib.sha256(digests.encode()).hexdigest()
        schema = self._schema()
        self.columns = {name: dtype for name, dtype in schema.items() if name not in header.labels}
        self.sides: dict[str, Side] = dict.fromkeys(self.columns, "context")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open a folder; its rows are read when asked for. InputError when it is no such folder, or a broken one."""
        folder = current_folder(path) or Path(path)
        try:
            header = msgspec.json.decode((folder / _HEADER).read_bytes(), type=_Header)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(
                f"{path} holds no labelled rows: make some with  leanrec prepare FILE --format criteo --out DIR"
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{folder / _HEADER} is broken ({error}): prepare the data again") from error
        if not 0 < header.rate <= 1:
            raise InputError(f"{folder / _HEADER} is broken (rate {header.rate}): prepare the data again")
        if header.format != FORMAT:
            raise InputError(f"{path} has format {header.format}, this version reads {FORMAT}: prepare the data again")
        for file in (file for files in header.files.values() for file in files):
            if Path(file.name).is_absolute() or ".." in Path(file.name).parts or not (folder / file.name).is_file():
                raise InputError(f"the data set {path} is broken ({file.name} is missing): prepare it again")
        return cls(folder, header)

    def rows(self, part: Part) -> int:
        return sum(file.rows for file in self._files.get(part, []))

    def sample(self, part: Part, rows: int) -> pl.DataFrame:
        files = [file for file in self._files.get(part, []) if file.rows]
        chosen = [files[place] for place in evenly(len(files), _SAMPLED)]
        total = sum(file.rows for file in chosen)
        frames = []
        for file in chosen:
            frame = self._open(file, None)
            frames.append(frame[evenly(len(frame), max(1, rows * file.rows // total))])
        return pl.concat(frames).head(rows) if frames else pl.DataFrame(schema=self._schema())

    def entities(self, side: Side) -> pl.DataFrame | None:
        return None

    def _read(self, part: Part, size: int, columns: list[str], seed: int | None) -> Iterator[pl.DataFrame]:
        files = self._files.get(part, [])
        rng = None if seed is None else np.random.default_rng(seed)
        order = np.arange(len(files)) if rng is None else rng.permutation(len(files))
        wanted = [*self.labels, *columns]
        left: pl.DataFrame | None = None
        mixed = 1 if rng is None else _MIXED
        for start in range(0, len(order), mixed):
            frame = pl.concat([self._open(files[place], wanted) for place in order[start : start + mixed]])
            if rng is not None:
                frame = frame[rng.permutation(len(frame))]
            frame = frame if left is None else pl.concat([left, frame])
            whole = len(frame) // size * size
            yield from (frame[at : at + size] for at in range(0, whole, size))
            left = frame[whole:] if whole < len(frame) else None
        if left is not None:
            yield left

    def _open(self, file: _File, columns: list[str] | None) -> pl.DataFrame:
        """One file's rows, columns in the order asked for."""
        path = self.path / file.name
        try:
            check_parquet(path, columns)
            frame = pl.read_parquet(path, columns=columns, memory_map=False)
            frame = frame if columns is None else frame.select(columns)
        except (*POLARS_ERRORS, OSError) as error:
            raise InputError(f"{path} cannot be read ({first_line(error)}): prepare the data again") from error
        if len(frame) != file.rows:
            raise InputError(f"{path} holds {len(frame):,} rows, not {file.rows:,}: prepare the data again")
        return frame

    def _schema(self) -> dict[str, pl.DataType]:
        files = [file for part in PARTS for file in self._files.get(part, [])]
        if not files:
            raise InputError(f"the data set {self.path} holds no rows: prepare it again")
        try:
            found: dict[str, pl.DataType] = dict(pl.read_parquet_schema(self.path / files[0].name))
        except (*POLARS_ERRORS, OSError) as error:
            where = self.path / files[0].name
            raise InputError(f"{where} cannot be read ({first_line(error)}): prepare the data again") from error
        return found


def write_examples(
    out: str | Path,
    parts: Iterable[tuple[Part, pl.DataFrame]],
    *,
    name: str,
    labels: tuple[str, ...],
    kinds: dict[str, str],
    rate: float = 1.0,
    report: Report,
) -> StoredExamples:
    """Write rows as they come, a file for each frame, all or nothing: `PART/NNNNN.parquet` and `examples.json`."""
    out = Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not holds_examples(out)):
        raise InputError(f"{out} exists and holds no labelled rows: choose another folder, or remove it")
    with atomic_folder(out) as folder:
        files: dict[str, list[_File]] = {part: [] for part in PARTS}
        for part, frame in parts:
            path = folder / part / f"{len(files[part]):05d}.parquet"
            path.parent.mkdir(exist_ok=True)
            frame.write_parquet(path, compression="zstd", compression_level=1)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            files[part].append(_File(f"{part}/{path.name}", len(frame), digest))
        report.splits = {part: sum(file.rows for file in files[part]) for part in PARTS if files[part]}
        if not files["train"]:
            raise InputError(f"{report.source}: no row is left to train on")
        header = _Header(format=FORMAT, name=name, labels=labels, kinds=kinds, files=files, rate=rate, report=report)
        report.features = _described(folder, header)
        (folder / _HEADER).write_bytes(msgspec.json.format(msgspec.json.encode(header), indent=1))
    return StoredExamples.load(out)


def _described(folder: Path, header: _Header) -> list[ColumnReport]:
    from leanrec.data.columns import describe_examples

    return describe_examples(StoredExamples(folder, header))
