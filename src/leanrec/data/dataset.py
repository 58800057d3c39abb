"""Encoded interactions by user in time order, with the protocol they are judged by: in memory or mapped from disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.errors import BundleError, InputError
from leanrec.core.files import atomic_folder, current_folder, disk_errors
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.tensors import map_tensors, write_tensors
from leanrec.data.cases import Cases, distinct, from_first_on, without
from leanrec.data.context import Context, context_arrays, read_context
from leanrec.data.frames import POLARS_ERRORS
from leanrec.data.parquet import check_parquet
from leanrec.data.report import Report
from leanrec.data.split import CONTEXT, TEST, TRAIN, VALID, Protocol

__all__ = ["Cases", "Dataset", "Interactions", "Protocol"]

FORMAT = 1

Part = Literal["valid", "test"]
Users = Literal["all", "tune", "certify"]


@dataclass(frozen=True, slots=True)
class Interactions:
    """All events by user, oldest first.

    items: one row per user, int32 item rows (T values). times: (T,) float64 Unix seconds. values: (T,) float32, NaN
    where unknown. split: (T,) uint8, 0 train, 1 valid, 2 test, 3 context (history of held-out users).
    """

    items: Jagged
    split: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float64] | None = None
    values: npt.NDArray[np.float32] | None = None
    context: Mapping[str, Context] = field(default_factory=dict)
    """What else the log said of the moment, by column."""

    def __len__(self) -> int:
        return len(self.items.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A prepared data set. `prepare` makes one; `load` maps a saved one without reading it.

    certify: (users,) bool, the users kept from tuning. attributes: one row per item row, first column `item_id`.
    """

    name: str
    users: Vocabulary
    items: Vocabulary
    interactions: Interactions
    protocol: Protocol
    certify: npt.NDArray[np.bool_]
    report: Report
    attributes: pl.DataFrame | None = None
    user_attributes: pl.DataFrame | None = None
    fingerprint: str = field(default="")

    def __post_init__(self) -> None:
        assert len(self.users) == len(self.interactions.items) == len(self.certify)
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", _fingerprint(self))

    def train(self, refit: bool = False) -> Jagged:
        """(users) the training part of each user, oldest first, and the validation part too when `refit`."""
        return self.interactions.items.where(self._trained(refit))

    def train_times(self, refit: bool = False) -> Jagged | None:
        """(users) Unix seconds in the layout of `train`, or None when there are no times."""
        return self._beside_train(self.interactions.times, refit)

    def train_values(self, refit: bool = False) -> Jagged | None:
        """(users) values in the layout of `train`, or None when there are none."""
        return self._beside_train(self.interactions.values, refit)

    def known(self, on: Part) -> Jagged:
        """(users) what is known of each user when they are asked about, oldest first: the histories of `cases`."""
        return self.interactions.items.where(self._known(on))

    def known_times(self, on: Part) -> Jagged | None:
        """(users) Unix seconds in the layout of `known`, or None when there are no times."""
        events, times = self.interactions.items, self.interactions.times
        return None if times is None else Jagged(times, events.offsets).where(self._known(on))

    def _known(self, on: Part) -> npt.NDArray[np.bool_]:
        events, split = self.interactions.items, self.interactions.split
        is_target = self._targets(on)
        if on == "valid":
            return np.isin(split, [TRAIN, CONTEXT])
        return ~from_first_on(is_target, events) if self.protocol.ordered else ~is_target

    def cases(self, on: Part, users: Users = "all", *, include_seen: bool | None = None) -> Cases:
        """The users to judge on, with what is known of them and what they then did.

        on="test": the history is everything not test before the user's first test event (everything not test when the
        order is unknown); on="valid": train and context. Targets are the distinct items of that part; when seen items
        may not be recommended (`include_seen`, by default the protocol's `repeats`), those in the history do not count.
        Users without targets are left out.
        """
        events, is_target = self.interactions.items, self._targets(on)
        repeats = self.protocol.repeats if include_seen is None else include_seen
        targets = distinct(events.where(is_target))
        rows = np.flatnonzero(targets.lengths)
        if users != "all":
            rows = rows[self.certify[rows] == (users == "certify")]
        histories, targets = self.known(on).take(rows), targets.take(rows)
        if not repeats:
            targets = without(targets, histories, len(self.items))
            kept = np.flatnonzero(targets.lengths)
            rows, histories, targets = rows[kept], histories.take(kept), targets.take(kept)
        return Cases(rows.astype(np.int32), histories, targets)

    def save(self, path: str | Path) -> None:
        """Write the folder described in docs/architecture.md, all or nothing."""
        path = Path(path)
        if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / "dataset.json").exists()):
            raise InputError(f"{path} exists and is not a prepared data set: choose another folder, or remove it")
        with atomic_folder(path) as folder:
            write_tensors(folder / "users.safetensors", self.users.tensors())
            write_tensors(folder / "items.safetensors", self.items.tensors())
            write_tensors(folder / "interactions.safetensors", dict(_arrays(self)))
            if self.interactions.context:
                write_tensors(folder / "context.safetensors", context_arrays(self.interactions.context))
            for name, table in (("items.parquet", self.attributes), ("users.parquet", self.user_attributes)):
                if table is not None:
                    (folder / name).write_bytes(_parquet(table))
            (folder / "dataset.json").write_bytes(msgspec.json.format(msgspec.json.encode(_header(self)), indent=1))

    @classmethod
    def load(cls, path: str | Path) -> Dataset:
        """Map a saved data set; item rows are checked once, other arrays are read only when touched."""
        path = current_folder(path) or Path(path)
        header = _read_header(path)
        try:
            with disk_errors(path):
                arrays = map_tensors(path / "interactions.safetensors")
                users = Vocabulary.from_tensors(map_tensors(path / "users.safetensors"))
                items = Vocabulary.from_tensors(map_tensors(path / "items.safetensors"))
                interactions, certify = _checked(arrays, header, len(users), len(items))
                if (path / "context.safetensors").exists():
                    context = read_context(map_tensors(path / "context.safetensors"), len(interactions))
                    interactions = replace(interactions, context=context)
                attributes = _read_attributes(path / "items.parquet", len(items))
                user_attributes = _read_attributes(path / "users.parquet", len(users))
        except (BundleError, FileNotFoundError, KeyError, ValueError, *POLARS_ERRORS) as error:
            raise InputError(f"the data set {path} is broken ({_reason(error)}): prepare it again") from error
        return cls(
            name=header.name,
            users=users,
            items=items,
            interactions=interactions,
            protocol=header.protocol,
            certify=certify,
            report=header.report,
            attributes=attributes,
            user_attributes=user_attributes,
            fingerprint=header.fingerprint,
        )

    def _targets(self, on: Part) -> npt.NDArray[np.bool_]:
        if on not in ("valid", "test"):
            raise InputError(f"on={on!r}: cases are drawn from 'valid' or 'test'")
        return np.equal(self.interactions.split, VALID if on == "valid" else TEST)

    def _trained(self, refit: bool) -> npt.NDArray[np.bool_]:
        return np.isin(self.interactions.split, [TRAIN, VALID] if refit else [TRAIN])

    def _beside_train(self, array: npt.NDArray[Any] | None, refit: bool) -> Jagged | None:
        if array is None:
            return None
        return Jagged(array, self.interactions.items.offsets).where(self._trained(refit))

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {len(self.users):,} users, {len(self.items):,} items, "
            f"{len(self.interactions):,} events, {self.protocol.split})"
        )


class _Header(msgspec.Struct, kw_only=True):
    format: int
    name: str
    fingerprint: str
    users: int
    items: int
    events: int
    protocol: Protocol
    report: Report


def _header(data: Dataset) -> _Header:
    return _Header(
        format=FORMAT,
        name=data.name,
        fingerprint=data.fingerprint,
        users=len(data.users),
        items=len(data.items),
        events=len(data.interactions),
        protocol=data.protocol,
        report=data.report,
    )


def _read_header(path: Path) -> _Header:
    file = path / "dataset.json"
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{path} is not a prepared data set: make one with  leanrec prepare EVENTS --out DIR"
        ) from error
    try:
        header = msgspec.json.decode(content, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file} is broken ({error}): prepare the data again") from error
    if header.format != FORMAT:
        raise InputError(f"{path} has format {header.format}, this version reads {FORMAT}: prepare the data again")
    return header


def _checked(
    arrays: Mapping[str, npt.NDArray[Any]], header: _Header, users: int, items: int
) -> tuple[Interactions, npt.NDArray[np.bool_]]:
    """The arrays as Interactions, after their shapes, types and ranges are checked against the header."""
    rows, offsets, split, certify = (arrays[name] for name in ("items", "offsets", "split", "certify"))
    events = header.events
    if (users, items) != (header.users, header.items):
        raise ValueError(
            f"{users} users and {items} items are stored, dataset.json says {header.users}, {header.items}"
        )
    expected = {
        "items": ((events,), np.int32),
        "offsets": ((users + 1,), np.int64),
        "split": ((events,), np.uint8),
        "certify": ((users,), np.uint8),
        "times": ((events,), np.float64),
        "values": ((events,), np.float32),
    }
    for name, array in arrays.items():
        if name not in expected or (array.shape, array.dtype) != (expected[name][0], np.dtype(expected[name][1])):
            raise ValueError(f"the array {name!r} has shape {array.shape} and type {array.dtype}")
    if offsets[0] != 0 or offsets[-1] != events or (np.diff(offsets) < 0).any():
        raise ValueError("the offsets of users do not cover the events")
    if events and not (int(rows.min()) >= 0 and int(rows.max()) < items and int(split.max()) <= CONTEXT):
        raise ValueError("an item row or split label is out of range")
    jagged = Jagged(rows, offsets)
    return Interactions(jagged, split, arrays.get("times"), arrays.get("values")), certify.astype(np.bool_)


def _parquet(frame: pl.DataFrame) -> bytes:
    """Through memory, so that a full disk is reported by the system and not in Polars' words."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _read_attributes(file: Path, rows: int) -> pl.DataFrame | None:
    if not file.exists():
        return None
    check_parquet(file)
    frame = pl.read_parquet(file)
    if len(frame) != rows:
        raise ValueError(f"{file.name} has {len(frame)} rows, not {rows}")
    return frame


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{Path(error.filename).name} is missing"
    if isinstance(error, KeyError):
        return f"the array {error} is missing"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _arrays(data: Dataset) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    yield "items", data.interactions.items.values
    yield "offsets", data.interactions.items.offsets
    yield "split", data.interactions.split
    yield "certify", data.certify.astype(np.uint8)
    if data.interactions.times is not None:
        yield "times", data.interactions.times
    if data.interactions.values is not None:
        yield "values", data.interactions.values


def _fingerprint(data: Dataset) -> str:
    """SHA-256 over ids, interactions, partition and protocol: equal for equal content, wherever it came from."""
    digest = hashlib.sha256(msgspec.json.encode(data.protocol))
    parts: list[tuple[str, npt.NDArray[Any]]] = list(_arrays(data))
    parts += [(f"context.{name}", array) for name, array in context_arrays(data.interactions.context).items()]
    for prefix, vocabulary in (("users", data.users), ("items", data.items)):
        parts += [(f"{prefix}.{name}", array) for name, array in vocabulary.tensors().items()]
    for name, array in sorted(parts, key=lambda part: part[0]):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()
