"""Formats of click logs: Criteo's TSV, Avazu's CSV, any table with a label column."""

from __future__ import annotations

import glob
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from leanrec.core.errors import InputError
from leanrec.data.examples.base import TIME
from leanrec.data.readers import Events, absent, open_events

__all__ = ["FORMATS", "Avazu", "Criteo", "Format", "Table"]

_LABELS = {"0": 0, "1": 1, "false": 0, "true": 1}


@dataclass(frozen=True)
class Format(ABC):
    """How rows lie in a file. label: its column. kinds: what is known of columns beforehand."""

    label: str
    kinds: Mapping[str, str]

    @abstractmethod
    def open(self, source: Any) -> Events:
        """The rows as a lazy frame; nothing is read."""

    def clean(self, batch: pl.DataFrame) -> pl.DataFrame:
        """A batch with the label as uint8 (null where it is neither 0 nor 1) and the raw feature columns."""
        label = batch[self.label].cast(pl.String, strict=False).str.strip_chars().str.to_lowercase()
        label = label.str.strip_suffix(".0").replace_strict(_LABELS, default=None, return_dtype=pl.UInt8)
        return self.columns(batch.drop(self.label)).insert_column(0, label.alias(self.label))

    def columns(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The feature columns of a batch."""
        return batch


class Criteo(Format):
    """Display advertising: label, 13 whole numbers, 26 hexadecimal categories; tabs, no header, empty is missing."""

    def __init__(self) -> None:
        self._numbers = [f"I{n}" for n in range(1, 14)]
        self._categories = [f"C{n}" for n in range(1, 27)]
        kinds = dict.fromkeys(self._numbers, "number") | dict.fromkeys(self._categories, "category")
        super().__init__("label", kinds)

    def open(self, source: Any) -> Events:
        files = _files(source)
        schema: dict[str, Any] = {"label": pl.String}
        schema |= dict.fromkeys(self._numbers, pl.Int64) | dict.fromkeys(self._categories, pl.String)
        frame = pl.scan_csv(files, separator="\t", has_header=False, schema=schema, quote_char=None, glob=False)
        return Events(frame, str(source), tuple(files))


class Avazu(Format):
    """Mobile advertising: id, click, hour as YYMMDDHH, and 21 categories, anonymous ones written as numbers."""

    _FEATURES = (
        "C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category",
        "device_id", "device_ip", "device_model", "device_type", "device_conn_type",
        *(f"C{n}" for n in range(14, 22)),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__("click", dict.fromkeys(self._FEATURES, "category"))

    def open(self, source: Any) -> Events:
        files = _files(source)
        events = Events(pl.scan_csv(files, infer_schema=False, glob=False), str(source), tuple(files))
        for name in ("click", "hour", *self._FEATURES):
            if name not in events.names:
                raise InputError(absent(events, name, events.names, "is it the training file of Avazu?"))
        return Events(events.frame.select("click", "hour", *self._FEATURES), events.where, events.files)

    def columns(self, batch: pl.DataFrame) -> pl.DataFrame:
        moments = (batch["hour"] + "00").str.to_datetime("%y%m%d%H%M", strict=False, time_unit="us")
        seconds = moments.dt.epoch("us") / 1e6
        return batch.drop("hour").insert_column(0, seconds.alias(TIME))


class Table(Format):
    """Any file that leanrec reads, with a column of 0 and 1."""

    def __init__(self, label: str) -> None:
        super().__init__(label, {})

    def open(self, source: Any) -> Events:
        events = open_events(source)
        if self.label not in events.names:
            raise InputError(absent(events, self.label, events.names, "name the column of labels with --label"))
        return events


def _files(source: Any) -> list[str]:
    """The files that a path, a folder or a glob stands for, by name, whatever they are called."""
    path = str(source)
    if Path(path).is_dir():
        files = sorted(str(file) for file in Path(path).iterdir() if file.is_file() and file.name[0] not in "._")
    else:
        files = [path] if Path(path).is_file() else sorted(glob.glob(path))  # noqa: PTH207 (absolute globs)
    if not files:
        raise InputError(f"{path} does not exist" if not Path(path).is_dir() else f"the folder {path} holds no file")
    for file in files:
        if not Path(file).stat().st_size:
            raise InputError(f"{file} is empty")
    return files


FORMATS: Mapping[str, type[Format]] = {"criteo": Criteo, "avazu": Avazu, "table": Table}
"""By the name that `leanrec prepare --format` takes."""
