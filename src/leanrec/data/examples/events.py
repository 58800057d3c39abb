"""Labelled rows of a Dataset: every event with what was known of user, item and moment, and nothing of the future."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.data.clean import Positive, parse_positive
from leanrec.data.dataset import Dataset
from leanrec.data.examples.base import HISTORY, ITEM, PARTS, TIME, USER, Examples, Part, Side, evenly
from leanrec.data.split import CONTEXT, TEST, TRAIN, VALID

__all__ = ["IMPLICIT", "EventExamples", "event_sides", "examples_of", "sample_events"]

IMPLICIT = "implicit"
_LABELS = {"train": TRAIN, "valid": VALID, "test": TEST}
_LOOKS = 10
"""Events that are looked at for each that a sample may have."""
_DRAWS = 20
"""Attempts at a negative that the user has never had, before a row goes without one."""


def examples_of(
    data: Dataset,
    label: str | Mapping[str, str] = IMPLICIT,
    *,
    negatives: int = 4,
    history: int = 50,
    seed: int = 0,
    refit: bool = False,
) -> EventExamples:
    """The events of a data set as labelled rows, in the parts of its own split.

    label: a condition on the value, as 'value>=4' (events without a value are left out); names with a condition each,
    for several tasks; or 'implicit': every event is a 1, with `negatives` drawn items that its user does not have in
    this part or an earlier one, each a 0.
    history: items before the event that a row shows, at most (none where the order of events is not known).
    refit: the validation part trains too, and is empty.
    """
    return EventExamples(data, label, negatives=negatives, history=history, seed=seed, refit=refit)


class EventExamples(Examples):
    """See `examples_of`. Attributes that two sides share are called `user_NAME` and `item_NAME`; a column of the moment
    whose name is taken, `context_NAME`.
    """

    def __init__(
        self,
        data: Dataset,
        label: str | Mapping[str, str],
        *,
        negatives: int,
        history: int,
        seed: int,
        refit: bool,
    ) -> None:
        self.data, self.history, self.negatives = data, history if data.protocol.ordered else 0, negatives
        self.name = data.name
        self.implicit = label == IMPLICIT
        self._conditions = {} if self.implicit else _conditions(label)
        self.labels = ("label",) if self.implicit else tuple(self._conditions)
        self.fingerprint = f"{data.fingerprint}:{label}:{negatives if self.implicit else 0}:{seed}:{int(refit)}"
        self._frames = _entities(data)
        self.columns, self.sides = self._schema()
        self.kinds = {USER: "category", ITEM: "category"}
        self._owner_T = data.interactions.items.row_of().astype(np.int32)
        self._parts = {part: self._rows_of(part, seed, refit) for part in PARTS}

    def rows(self, part: Part) -> int:
        return len(self._parts[part][0])

    def sample(self, part: Part, rows: int) -> pl.DataFrame:
        return self._frame(part, evenly(self.rows(part), rows), list(self.columns))

    def entities(self, side: Side) -> pl.DataFrame | None:
        return self._frames.get(side)

    def _read(self, part: Part, size: int, columns: list[str], seed: int | None) -> Iterator[pl.DataFrame]:
        count = self.rows(part)
        order = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
        for start in range(0, count, size):
            yield self._frame(part, order[start : start + size], columns)

    def _rows_of(self, part: Part, seed: int, refit: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """(R,) the event of each row, and the item it is about, -1 where that is the event's own."""
        split = self.data.interactions.split
        wanted = [TRAIN, VALID] if refit and part == "train" else [] if refit and part == "valid" else [_LABELS[part]]
        mask_T = np.isin(split, wanted)
        if not self.implicit:
            values = self.data.interactions.values
            if values is None:
                raise InputError(f"{self.name} has no values to label by: prepare it with --value-col, or use implicit")
            events = np.flatnonzero(mask_T & ~np.isnan(values))
            return events, np.full(len(events), -1, np.int32)
        events = np.flatnonzero(mask_T)
        rng = np.random.default_rng([seed, PARTS.index(part)])
        past_T = mask_T | np.isin(split, [TRAIN, CONTEXT] if part == "train" else [TRAIN, VALID, CONTEXT])
        drawn = self._draw(np.repeat(events, self.negatives), past_T, rng).reshape(len(events), self.negatives)
        items = np.concatenate([np.full((len(events), 1), -1, np.int32), drawn], axis=1).ravel()
        kept = np.ones(len(items), np.bool_)
        kept.reshape(len(events), -1)[:, 1:] = drawn >= 0
        return np.repeat(events, 1 + self.negatives)[kept], items[kept]

    def _draw(
        self, events: npt.NDArray[np.int64], past_T: npt.NDArray[np.bool_], rng: np.random.Generator
    ) -> npt.NDArray[np.int32]:
        """An item for each event that its user did not have in what is past; -1 where none was found.

        What a later part holds must not show in which items are never drawn.
        """
        num_items = len(self.data.items)
        keys_T = self._owner_T.astype(np.int64) * num_items + self.data.interactions.items.values
        taken = np.unique(keys_T[past_T])
        drawn = np.full(len(events), -1, np.int32)
        open_ = np.arange(len(events))
        for _ in range(_DRAWS):
            items = rng.integers(0, num_items, len(open_))
            keys = self._owner_T[events[open_]].astype(np.int64) * num_items + items
            place = np.minimum(np.searchsorted(taken, keys), len(taken) - 1)
            free = taken[place] != keys
            drawn[open_[free]] = items[free]
            open_ = open_[~free]
            if not len(open_):
                break
        return drawn

    def _schema(self) -> tuple[dict[str, pl.DataType], dict[str, Side]]:
        columns: dict[str, pl.DataType] = {USER: pl.Int32(), ITEM: pl.Int32()}
        sides: dict[str, Side] = {USER: "user", ITEM: "item"}
        for side, frame in self._frames.items():
            for name, dtype in frame.schema.items():
                columns[name], sides[name] = dtype, side
        if self.data.interactions.times is not None:
            columns[TIME], sides[TIME] = pl.Float64(), "context"
        self._context = {f"context_{name}" if name in columns else name: column
                         for name, column in self.data.interactions.context.items()}  # fmt: skip
        for name, column in self._context.items():
            columns[name], sides[name] = column.dtype, "context"
        if self.history:
            columns[HISTORY], sides[HISTORY] = pl.List(pl.Int32), "user"
        return columns, sides

    def _frame(self, part: Part, rows: npt.NDArray[np.int64], columns: list[str]) -> pl.DataFrame:
        events, drawn = self._parts[part][0][rows], self._parts[part][1][rows]
        own = drawn < 0
        items = np.where(own, self.data.interactions.items.values[events], drawn)
        made = [pl.Series(name, label) for name, label in self._label(events, own).items()]
        users = self._owner_T[events]
        tables = {side: frame[rows_] for side, frame, rows_ in self._gather(users, items, columns)}
        for column in columns:
            if column == TIME and self.data.interactions.times is not None:
                made.append(pl.Series(TIME, self.data.interactions.times[events]))
            elif column in self._context:
                made.append(self._context[column].series(column, events))
            elif column == HISTORY and self.history:
                made.append(_lists(self._history(events)).alias(HISTORY))
            else:
                made.append(tables[self.sides[column]][column])
        return pl.DataFrame(made)

    def _gather(
        self, users: npt.NDArray[np.int32], items: npt.NDArray[np.int32], columns: list[str]
    ) -> Iterator[tuple[Side, pl.DataFrame, npt.NDArray[np.int32]]]:
        sides: tuple[tuple[Side, npt.NDArray[np.int32]], ...] = (("user", users), ("item", items))
        for side, rows in sides:
            names = [name for name in self._frames[side].columns if name in columns]
            if names:
                yield side, self._frames[side].select(names), rows

    def _label(self, events: npt.NDArray[np.int64], own: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.uint8]]:
        if self.implicit:
            return {"label": own.astype(np.uint8)}
        values = self.data.interactions.values
        assert values is not None
        series = pl.Series(values[events])
        return {name: keeps.keeps(series).to_numpy().astype(np.uint8) for name, keeps in self._conditions.items()}

    def _history(self, events: npt.NDArray[np.int64]) -> Jagged:
        """(R) the item rows just before each event, oldest first."""
        items = self.data.interactions.items
        starts = np.maximum(items.offsets[self._owner_T[events]], events - self.history)
        lengths = events - starts
        ends = np.cumsum(lengths)
        shift = np.repeat(starts - (ends - lengths), lengths)
        at = np.arange(int(ends[-1]) if len(ends) else 0) + shift
        return Jagged.from_lengths(items.values[at], lengths)


def event_sides(data: Dataset) -> dict[str, Side]:
    """Whom each column of `sample_events` describes."""
    return {name: side for side, frame in _entities(data).items() for name in frame.columns}


def sample_events(data: Dataset, part: Part, rows: int) -> pl.DataFrame:
    """User and item row and attributes of at most `rows` events of a part, without looking at all of a long log."""
    items, split = data.interactions.items, data.interactions.split
    events = np.arange(len(split))
    if len(split) > _LOOKS * rows:
        events = np.unique(np.random.default_rng(0).integers(0, len(split), _LOOKS * rows))
    events = events[split[events] == _LABELS[part]]
    events = events[evenly(len(events), rows)]
    users = np.searchsorted(items.offsets, events, side="right") - 1
    frames = _entities(data)
    sampled: pl.DataFrame = frames["user"][users].hstack(frames["item"][items.values[events]])
    return sampled


def _conditions(label: str | Mapping[str, str]) -> dict[str, Positive]:
    named = {"label": label} if isinstance(label, str) else dict(label)
    if not named:
        raise InputError("there is no label to predict: name at least one, as in label='value>=4'")
    conditions = {name: parse_positive(text) for name, text in named.items()}
    for condition in conditions.values():
        if condition.column != "value":
            raise InputError(f"the label {condition.text!r} must be a condition on 'value', such as 'value>=4'")
    return conditions


def _entities(data: Dataset) -> dict[Side, pl.DataFrame]:
    """One row for each user and item: its row number and its attributes, under names that are distinct."""
    found: dict[Side, pl.DataFrame] = {}
    given = {"user": (USER, len(data.users), data.user_attributes), "item": (ITEM, len(data.items), data.attributes)}
    reserved = {USER, ITEM, TIME, HISTORY}
    names = {side: [] if frame is None else frame.columns[1:] for side, (_, _, frame) in given.items()}
    shared = (set(names["user"]) & set(names["item"])) | reserved
    for side, (key, count, frame) in given.items():
        made = pl.DataFrame({key: np.arange(count, dtype=np.int32)})
        if frame is not None:
            renamed = {name: f"{side}_{name}" if name in shared else name for name in frame.columns[1:]}
            made = made.hstack(frame[:, 1:].rename(renamed))
        found["user" if side == "user" else "item"] = made
    return found


def _lists(rows: Jagged) -> pl.Series:
    """A Jagged as a column of lists."""
    flat = pl.DataFrame({"row": rows.row_of(), "values": rows.values})
    lists = flat.group_by("row", maintain_order=True).agg("values")
    every = pl.DataFrame({"row": np.arange(len(rows))}).join(lists, on="row", how="left", maintain_order="left")
    return every["values"].fill_null(pl.lit([], pl.List(pl.Int32))) if every["values"].null_count() else every["values"]
