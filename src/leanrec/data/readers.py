"""Events and tables from wherever they are: files, globs, folders, frames that speak Arrow, sparse matrices.

Everything becomes a lazy Polars frame; nothing is read but names and types until `ingest` streams it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.registry import nearest
from leanrec.data.frames import POLARS_ERRORS, first_line, from_arrow, from_sparse
from leanrec.data.parquet import check_parquet

__all__ = [
    "DEFAULT_COLUMNS",
    "Events",
    "absent",
    "check_files",
    "choose_columns",
    "companion",
    "few_ahead",
    "known_rows",
    "open_events",
    "read_table",
    "reading",
]

DEFAULT_COLUMNS: dict[str, tuple[str, ...]] = {
    "user": ("user_id", "userId", "UserID", "user", "reviewerID", "visitorid"),
    "item": ("item_id", "itemId", "ItemID", "item", "movieId", "MovieID", "parent_asin", "asin", "itemid"),
    "time": ("timestamp", "Timestamp", "unixReviewTime", "time"),
    "value": ("value", "rating", "Rating", "overall"),
}
"""Role -> the names it goes by when no column is named, the first that exists wins."""

_OPTIONS = {
    "user": "--user-col", "item": "--item-col", "time": "--time-col", "value": "--value-col", "order": "--order-by",
    "split": "--split column:NAME",
}  # fmt: skip

_FORMATS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".inter": "csv", ".item": "csv",
    ".user": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".arrow": "ipc", ".feather": "ipc",
    ".ipc": "ipc",
}  # fmt: skip
_TYPED_HEADERS = {".inter", ".item", ".user"}
_COMPRESSED = {".gz", ".zst", ".zstd"}
_SAMPLE = 10_000
_AHEAD = "POLARS_ROW_GROUP_PREFETCH_SIZE"


@dataclass(frozen=True, slots=True)
class Events:
    """A source of rows. frame: lazy, columns as they are outside. where: what messages call it."""

    frame: pl.LazyFrame
    where: str
    files: tuple[str, ...] = ()
    text: bool = False
    """Read from a format without types (CSV), where ids that look like whole numbers may be reread as text."""

    @property
    def names(self) -> list[str]:
        with reading(self):
            return self.frame.collect_schema().names()


def open_events(source: Any) -> Events:
    """A file, glob, folder or URL; a Polars frame; any object that speaks Arrow; a SciPy sparse matrix."""
    if isinstance(source, Events):
        return source
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source))
    if isinstance(source, pl.LazyFrame):
        return Events(source, "the frame")
    if isinstance(source, pl.DataFrame):
        return Events(source.lazy(), "the frame")
    if hasattr(source, "tocoo") and hasattr(source, "shape"):
        return Events(from_sparse(source).lazy(), "the matrix")
    if hasattr(source, "__arrow_c_stream__"):
        return Events(from_arrow(source).lazy(), "the frame")
    if isinstance(source, Mapping):
        return Events(from_arrow(source).lazy(), "the table")
    raise InputError(
        f"events must be a path, a frame (Polars, pandas, DuckDB, PyArrow) or a SciPy sparse matrix, "
        f"not {type(source).__name__}"
    )


def read_table(source: Any, *, text_columns: Sequence[str] = ()) -> tuple[pl.DataFrame, str]:
    """A whole table (item or user attributes) and what messages call it."""
    events = open_events(source)
    if events.text and text_columns:
        names = [name for name in text_columns if name in events.names]
        events = as_text(events, names)
    check_files(events)
    with reading(events):
        return events.frame.collect(), events.where


def check_files(events: Events, columns: Collection[str] | None = None) -> None:
    """InputError when a local Parquet file lies about the sizes of these columns, before it is read."""
    for file in events.files:
        if _format(file) == "parquet" and "://" not in file:
            check_parquet(file, columns)


@contextmanager
def few_ahead() -> Iterator[None]:
    """Parquet row groups that start to be read in here are read one ahead, where Polars would hold a dozen in memory.

    Polars asks the environment for it when a scan starts; who has set it keeps their number.
    """
    if _AHEAD in os.environ:
        yield
        return
    os.environ[_AHEAD] = "1"
    try:
        yield
    finally:
        del os.environ[_AHEAD]


def known_rows(events: Events) -> int | None:
    """How many rows there are, where local files say so without being read."""
    if events.files and _format(events.files[0]) in ("parquet", "ipc") and "://" not in events.where:
        return int(events.frame.select(pl.len()).collect().item())
    return None


def as_text(events: Events, columns: Sequence[str]) -> Events:
    """The same files with some columns read as text instead of numbers."""
    zeros = {} if "://" in events.where else _leading_zeros(events.files[0])
    frame = _scan(list(events.files), zeros | dict.fromkeys(columns, pl.String()))
    return Events(frame, events.where, events.files, text=False)


def choose_columns(
    events: Events, wanted: Mapping[str, str | None], also: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Role -> column: the one asked for, else the first default name there is. User and item must be found.

    also: further columns by role that are read as they are and need only exist.
    """
    names = events.names
    chosen: dict[str, str] = {}
    for role, asked in wanted.items():
        if asked is not None and asked not in names:
            option = _OPTIONS.get(role, "--context")
            raise InputError(absent(events, asked, names, f"choose another for {option}"))
        found = asked or next((name for name in DEFAULT_COLUMNS.get(role, ()) if name in names), None)
        if found is not None:
            chosen[role] = found
        elif role in ("user", "item"):
            raise InputError(absent(events, DEFAULT_COLUMNS[role][0], names, f"name yours with {_OPTIONS[role]}"))
    for role, name in (also or {}).items():
        if name not in names:
            raise InputError(absent(events, name, names, f"choose another for --{role}"))
    if chosen["user"] == chosen["item"]:
        raise InputError(f"{events.where}: the column {chosen['user']!r} cannot hold both users and items")
    return chosen


def companion(source: Any, stem: str) -> Path | None:
    """The `stem` table (items, users) that lies beside the events in a folder, if any."""
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        found = sorted(p for p in Path(source).glob(f"{stem}.*") if p.suffix in _FORMATS and p.suffix != ".json")
        return found[0] if found else None
    return None


@contextmanager
def reading(events: Events) -> Iterator[None]:
    """Turn what Polars raises about a file into one sentence that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{events.where} does not exist") from error
    except pl.exceptions.NoDataError as error:
        raise InputError(f"{_blame(events)} is empty") from error
    except (*POLARS_ERRORS, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.filename is None and not _polars_says(error):
            raise
        raise InputError(f"{_blame(events)} cannot be read ({first_line(error)}): is it complete?") from error


def _blame(events: Events) -> str:
    """The file of several that cannot be read, else the source as a whole."""
    for file in events.files if len(events.files) > 1 else ():
        try:
            _scan([file], {}).head(1).collect()
        except (*POLARS_ERRORS, OSError, UnicodeDecodeError):
            return file
    return events.where


def _polars_says(error: OSError) -> bool:
    return error.errno is None


def absent(events: Events, name: str, names: list[str], remedy: str) -> str:
    """The sentence that says which column is missing, which there are, and what to do."""
    return f"{events.where} has no column {name!r}{nearest(name, names)}; it has: {', '.join(names)}; {remedy}"


def _open_path(path: str) -> Events:
    if "://" in path:
        return Events(_scan([path], {}), path, (path,), text=_format(path) == "csv")
    files = _files(path)
    events = Events(pl.LazyFrame(), path, tuple(files), text=_format(files[0]) == "csv")
    for file in files:
        if Path(file).stat().st_size == 0:
            raise InputError(f"{file} is empty")
    with reading(events):
        frame = _scan(files, _leading_zeros(files[0]) if events.text else {})
    return Events(frame, path, tuple(files), events.text)


def _files(path: str) -> list[str]:
    """The files that a path, folder or glob stands for, sorted by name, all of one format."""
    if Path(path).is_dir():
        names = sorted(str(p) for p in Path(path).rglob("*") if p.is_file() and _format_or_none(str(p)))
        named = [n for n in names if Path(n).parent == Path(path) and Path(n).stem in ("interactions", "events")]
        files = named or [n for n in names if not Path(n).name.startswith((".", "_", "meta."))]
        if not files:
            raise InputError(f"the folder {path} holds no Parquet, CSV, TSV, JSON Lines, Arrow or .inter file")
    elif Path(path).exists():
        files = [path]
    else:
        files = sorted(f for f in glob.glob(path, recursive=True) if Path(f).is_file())  # noqa: PTH207 (absolute globs)
        if not files:
            raise InputError(f"{path} does not exist" if not glob.has_magic(path) else f"no file matches {path}")
    formats = {_format(f) for f in files}
    if len(formats) > 1:
        raise InputError(
            f"{path} mixes formats ({', '.join(sorted(formats))}): name the files with a glob like '*.csv'"
        )
    return files


def _suffix(file: str) -> str:
    parts = Path(file).suffixes
    if parts and parts[-1].lower() in _COMPRESSED:
        parts = parts[:-1]
    return parts[-1].lower() if parts else ""


def _format_or_none(file: str) -> str | None:
    return _FORMATS.get(_suffix(file))


def _format(file: str) -> str:
    kind = _format_or_none(file)
    if kind is None:
        raise InputError(
            f"{file} has no known ending; leanrec reads .parquet, .csv, .tsv, .jsonl, .arrow, .feather and .inter"
        )
    return kind


def _scan(files: list[str], overrides: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    kind = _format(files[0])
    if kind == "parquet":
        return pl.scan_parquet(files, glob=False)
    if kind == "ipc":
        return pl.scan_ipc(files, glob=False)
    if kind == "json":
        return pl.scan_ndjson(files, infer_schema_length=_SAMPLE)
    separator = _separator(files[0])
    typed = _suffix(files[0]) in _TYPED_HEADERS
    frame = pl.scan_csv(
        files,
        separator=separator,
        schema_overrides=_by_header(files[0], overrides) if typed else dict(overrides),
        infer_schema_length=_SAMPLE,
        quote_char=None if typed else '"',
        glob=False,
    )
    return frame.rename(_untyped) if typed else frame


def _untyped(name: str) -> str:
    """`user_id:token` to `user_id`."""
    return name.split(":", 1)[0]


def _by_header(file: str, overrides: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """Overrides by untyped name as overrides by the names in the file."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        header = lines.readline().rstrip("\r\n").split("\t")
    return {name: overrides[_untyped(name)] for name in header if _untyped(name) in overrides}


def _separator(file: str) -> str:
    """Tab for .tsv and RecBole's files; for .csv the candidate that stands most often in the header line."""
    if _suffix(file) != ".csv":
        return "\t"
    if Path(file).suffix.lower() in _COMPRESSED or "://" in file:
        return ","
    with open(file, "rb") as handle:
        header = handle.readline(1 << 16)
    return max((",", ";", "\t", "|"), key=lambda mark: header.count(mark.encode()))


def _leading_zeros(file: str) -> dict[str, pl.DataType]:
    """Columns of a CSV whose values look like whole numbers but would lose leading zeros: they are text."""
    head = pl.read_csv(
        file,
        separator=_separator(file),
        infer_schema=False,
        n_rows=_SAMPLE,
        quote_char=None if _suffix(file) in _TYPED_HEADERS else '"',
    )
    zeros = head.select(pl.all().str.contains(r"^-?0[0-9]+$").any())
    return {_untyped(name): pl.String() for name in zeros.columns if zeros[name].item()} if len(head) else {}
