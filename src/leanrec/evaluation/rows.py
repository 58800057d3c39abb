"""How good predictions of single events are: a click's probability, a rating.

Every model is asked for its score of the same held-out rows: an event, with its user, the user's history before it, and
its moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.data.dataset import Dataset, Part
from leanrec.data.examples.base import HISTORY, ITEM, TIME, USER, Examples
from leanrec.data.examples.events import examples_of
from leanrec.evaluation.row_results import RowResults, Task
from leanrec.runtime.recommender import Recommender

__all__ = ["RowResults", "Rows", "Task", "judge_examples", "judge_rows", "predict", "rows_of"]

Values = npt.NDArray[np.float64]

_BATCH = 4096
_HISTORY = 200


@dataclass(frozen=True, slots=True)
class Rows:
    """Held-out rows. truth_T: labels (0 or 1) or ratings. users_T, items_T: rows of the data set. histories: (T) item
    rows before each, oldest first. times_T: Unix seconds, or None."""

    truth_T: Values
    users_T: npt.NDArray[np.int32]
    items_T: npt.NDArray[np.int32]
    histories: Jagged
    times_T: Values | None

    def __len__(self) -> int:
        return len(self.truth_T)


def rows_of(data: Dataset, task: Task, *, on: Part = "test", label: Any = None, seed: int = 0) -> Rows:
    """The held-out events as rows. label: for `ctr`, a condition such as 'value>=4', or "implicit" (with as many drawn
    items the user never had as `examples_of` draws); for `rating` the value itself is the truth."""
    examples = examples_of(data, "value>=0" if task == "rating" else label or "implicit", history=_HISTORY, seed=seed)
    events = list(examples.batches(on, _BATCH))
    if not events:
        raise InputError(f"{data.name} has no {on} event with a value to judge predictions by")
    truth, users, items, times, lists = [], [], [], [], []
    values = _values(data, on) if task == "rating" else None
    for frame in events:
        truth.append(frame[examples.label].to_numpy().astype(np.float64))
        users.append(frame[USER].to_numpy())
        items.append(frame[ITEM].to_numpy())
        times.append(frame[TIME].to_numpy() if TIME in frame.columns else np.zeros(0))
        lists += [np.asarray(one, np.int32) for one in frame[HISTORY].to_list()] if HISTORY in frame.columns else []
    owner_T = np.concatenate(users).astype(np.int32)
    histories = Jagged.from_rows(lists) if lists else data.known(on).take(owner_T)
    when = np.concatenate(times)
    return Rows(
        np.concatenate(truth) if values is None else values, owner_T, np.concatenate(items).astype(np.int32), histories,
        when if len(when) == len(owner_T) else None,
    )  # fmt: skip


def _values(data: Dataset, on: Part) -> Values:
    events = data.interactions
    assert events.values is not None, "refused by examples_of"
    held = events.values[events.split == (1 if on == "valid" else 2)]
    known: Values = held[~np.isnan(held)].astype(np.float64)
    return known


def predict(model: Recommender, data: Dataset, rows: Rows) -> Values:
    """(T,) what the model says of each row; -inf where it knows nothing of the user."""
    users_T = None
    if model.users is not None:
        same = model.users is data.users or model.users == data.users
        users_T = rows.users_T if same else model.users.rows(data.users.ids(rows.users_T))
    if not (model.items is data.items or model.items == data.items):
        raise InputError("predictions of events need a model of this data set's items: train it on the same data")
    said = []
    for start in range(0, len(rows), _BATCH):
        stop = min(start + _BATCH, len(rows))
        context = None if rows.times_T is None else {TIME: rows.times_T[start:stop].tolist()}
        users = None if users_T is None else users_T[start:stop]
        queries = Queries(rows.histories.slice(start, stop), 1, users=users, context=context)
        asked = Jagged(rows.items_T[start:stop], np.arange(stop - start + 1, dtype=np.int64))
        said.append(model.source.score(queries, asked).astype(np.float64))
    return np.concatenate(said)


def judge_rows(
    models: Mapping[str, Recommender], data: Dataset, task: Task, *, on: Part = "test", label: Any = None, seed: int = 0
) -> RowResults:
    """Every model on the held-out rows, then what needs no model: the mean of training, and each item's own.

    label: of a `ctr` task; by default what the first model says in its card that it predicts.
    """
    said_labels = [model.card.get("config", {}).get("label") for model in models.values()]
    wanted = label or next((one for one in said_labels if one), None)
    rows = rows_of(data, task, on=on, label=wanted, seed=seed)
    baselines = _baselines(data, task, wanted, rows, seed)
    said, notes = {}, {}
    for name, model in models.items():
        said[name] = predict(model, data, rows)
        silent_T = np.isneginf(said[name])
        if silent_T.any():
            notes[name] = (
                f"{int(silent_T.sum()):,} rows of users that it knows nothing of count as the mean of training"
            )
            said[name][silent_T] = baselines["mean"][silent_T]
    return RowResults(task, on, rows.truth_T, rows.users_T, said | baselines, notes=notes, seed=seed)


def judge_examples(
    models: Mapping[str, Recommender], examples: Examples, *, on: Part = "test", seed: int = 0
) -> RowResults:
    """Every model on labelled rows as they were logged, then the mean of training; rows are drawn one by one.

    All columns of a row are its context; a model that was fitted on logged rows has one item, which is asked for.
    """
    if not examples.rows(on):
        raise InputError(f"{examples.name} has no {on} rows to judge predictions by")
    truth, said = [], {name: list[Values]() for name in models}
    for frame in examples.batches(on, _BATCH):
        truth.append(frame[examples.label].to_numpy().astype(np.float64))
        context = {column: frame[column].to_list() for column in examples.columns}
        nobody = np.full(len(frame), -1, np.int32)
        queries = Queries(Jagged.empty(len(frame)), 1, users=nobody, context=context)
        asked = Jagged(np.zeros(len(frame), np.int32), np.arange(len(frame) + 1, dtype=np.int64))
        for name, model in models.items():
            said[name].append(model.source.score(queries, asked).astype(np.float64))
    truth_T = np.concatenate(truth)
    sums = [(int(frame[examples.label].sum()), len(frame)) for frame in examples.batches("train", 1 << 16, [])]
    rate = sum(yes for yes, _ in sums) / max(sum(rows for _, rows in sums), 1)
    found = {name: np.concatenate(parts) for name, parts in said.items()}
    return RowResults("ctr", on, truth_T, np.arange(len(truth_T)), {**found, "mean": np.full(len(truth_T), rate)},
                      seed=seed)  # fmt: skip


def _baselines(data: Dataset, task: Task, label: Any, rows: Rows, seed: int) -> dict[str, Values]:
    """The mean of the training rows, and each item's mean drawn towards it by ten rows."""
    train = examples_of(data, "value>=0" if task == "rating" else label or "implicit", history=1, seed=seed)
    frames = [(f[train.label].to_numpy(), f[ITEM].to_numpy()) for f in train.batches("train", _BATCH, [ITEM])]
    truth, items = (np.concatenate(parts) for parts in zip(*frames, strict=True))
    if task == "rating":
        given = data.train_values()
        assert given is not None, "refused by examples_of"
        truth = given.values[~np.isnan(given.values)].astype(np.float64)
    mean = float(truth.mean())
    sums, counts = (np.bincount(items, weights, minlength=len(data.items)) for weights in (truth, np.ones(len(items))))
    means_N = (sums + 10 * mean) / (counts + 10)
    return {"mean": np.full(len(rows), mean), "item mean": means_N[rows.items_T]}
