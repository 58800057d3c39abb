"""A trained model from elsewhere as a bundle that serves, is evaluated and compressed like our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build, to_dict
from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.data.dataset import Dataset
from leanrec.data.readers import read_table
from leanrec.events.history import FolderHistory
from leanrec.features.items import ItemAttributes
from leanrec.jobs.foreign import IMPORTERS
from leanrec.models.popular import popular_fallback
from leanrec.runtime.bundle import history_folder
from leanrec.runtime.recommender import Recommender

__all__ = ["ImportJob", "import_model"]


class ImportJob(Config, frozen=True, kw_only=True):
    """What `leanrec import` is told."""

    kind: str
    path: str
    out: str
    data: str | None = None
    """A prepared data set: its ids by row (where the file names none), histories, attributes and protocol."""
    items: str | None = None
    """A table with the column item_id, in the order of the model's rows."""
    users: str | None = None
    settings: Mapping[str, Any] = msgspec.field(default_factory=dict)


def import_model(job: ImportJob) -> Recommender:
    """Read the model, give its rows their ids, and write the bundle, with the histories of the data set beside it."""
    kind = IMPORTERS[job.kind]
    config = build(kind.Config, job.settings, where=f"import {job.kind}")
    found = kind(config).read(Path(job.path))
    for one in found.notes:
        say(one)
    data = None if job.data is None else Dataset.load(job.data)
    source = found.source
    items = _ids("item", source.num_items, job.items, found.item_ids, None if data is None else data.items)
    users = None
    if source.personal:
        users = _ids("user", source.num_users, job.users, found.user_ids, None if data is None else data.users)
    ours = data if data is not None and data.items == items else None
    described = None if ours is None else ours.attributes
    recommender = Recommender(
        source,
        items,
        repeats=data.protocol.repeats if data is not None else False,
        fallback=None if ours is None else popular_fallback(ours, refit=True),
        users=users,
        attributes=None if described is None else ItemAttributes.from_frame(described),
        card={"model": f"imported from {job.kind}", "config": to_dict(config), "file": Path(job.path).name},
        lineage={} if data is None else {"dataset": data.fingerprint, "name": data.name},
    )
    recommender.save(job.out)
    if data is not None:
        FolderHistory.save(history_folder(Path(job.out)), data.users, data.items, data.known("test"))
    return recommender


def _ids(
    what: str, rows: int, table: str | None, stored: npt.NDArray[Any] | None, known: Vocabulary | None
) -> Vocabulary:
    """Ids by row: from the table named, else those in the file, else the data set's, else the numbers of the rows."""
    if table is not None:
        frame, where = read_table(table)
        if f"{what}_id" not in frame.columns:
            raise InputError(f"{where} has no column {what + '_id'!r}; it has: {', '.join(frame.columns)}")
        ids: Any = frame[f"{what}_id"].to_list()
    elif stored is not None:
        where, ids = "the file", stored.tolist()
    elif known is not None:
        where, ids = "the data set", known.ids()
    else:
        say(f"{what}s have no ids: they are called by their row numbers, 0 to {rows - 1}")
        return Vocabulary(np.arange(rows))
    if len(ids) != rows:
        raise InputError(
            f"{where} has {len(ids):,} {what} ids and the model {rows:,} {what}s: name the ids in the order of the "
            f"model's rows with --{what}s FILE"
        )
    if table is None and stored is None and known is not None:
        return known
    vocabulary = Vocabulary(ids)
    vocabulary.rows(ids[:1])  # says so when ids repeat
    return vocabulary
