"""A Recommender to the files and plain values of a bundle, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrec.core.errors import BundleError, LeanrecError
from leanrec.core.files import current_folder
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.events.base import HistoryStore
from leanrec.runtime.base import Parts, Source
from leanrec.runtime.bundle import Bundle, Content
from leanrec.runtime.newcomers import Newcomers
from leanrec.runtime.sources import SOURCES

if TYPE_CHECKING:
    from leanrec.features.items import ItemAttributes
    from leanrec.runtime.recommender import Recommender

__all__ = ["load_histories", "pack", "save_histories", "unpack"]

_ROLES = ("source", "fallback")


def pack(recommender: Recommender) -> tuple[dict[str, Content], dict[str, Any]]:
    """(file name -> content, plain values) of all that the recommender is."""
    files: dict[str, Content] = {"ids.safetensors": recommender.items.tensors()}
    if recommender.users is not None:
        files["users.safetensors"] = recommender.users.tensors()
    config: dict[str, Any] = {"repeats": recommender.repeats}
    for role in _ROLES:
        source: Source | None = getattr(recommender, role)
        if source is None:
            config[role] = None
            continue
        config[role] = {"kind": source.kind, "name": source.name, "config": source.config()}
        files |= {f"{role}-{stem}.safetensors": tensors for stem, tensors in source.parts().items()}
    if recommender.newcomers is not None:
        config["newcomers"] = dict(recommender.newcomers.config)
        files["newcomers.safetensors"] = dict(recommender.newcomers.tensors)
    if recommender.attributes is not None:
        files["items.parquet"] = recommender.attributes.parquet()
    return files, config


def unpack(bundle: Bundle) -> dict[str, Any]:
    """The arguments of the Recommender in a verified bundle; a BundleError when its parts do not fit together."""
    manifest, config = bundle.manifest, bundle.manifest.recommender
    try:
        if set(config) - {"newcomers"} != {"repeats", *_ROLES} or not isinstance(config["repeats"], bool):
            raise ValueError("its configuration is not one of a recommender")
        items = _vocabulary(bundle.tensors["ids"])
        users = _vocabulary(bundle.tensors["users"]) if "users" in bundle.tensors else None
        newcomers = Newcomers(dict(config["newcomers"]), bundle.tensors["newcomers"]) if "newcomers" in config else None
        sources = {role: _load_source(role, config[role], bundle) for role in _ROLES}
        if sources["source"] is None:
            raise ValueError("it has no source")
        known = sources["source"].num_users if sources["source"].personal else None
        if known != (None if users is None else len(users)):
            raise ValueError("the ids of users are not those that its source knows")
        for source in sources.values():
            if source is not None and source.num_items != len(items):
                raise ValueError(f"{source.name!r} is about {source.num_items} items, the ids are {len(items)}")
    except BundleError as error:
        raise BundleError(f"{bundle.path}: {error}") from error
    except (LeanrecError, AssertionError, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BundleError(f"the parts of {bundle.path} do not fit together ({error}): write it again") from error
    facts = {"card": manifest.card, "lineage": manifest.lineage, "certificate": manifest.certificate}
    return {
        "items": items,
        "users": users,
        "repeats": config["repeats"],
        "attributes": _attributes(bundle, len(items)),
        "newcomers": newcomers,
        **sources,
        **facts,
    }


def _vocabulary(tensors: Mapping[str, Any]) -> Vocabulary:
    erased = tensors["erased"]
    if "ids" in tensors:
        fits = tensors["ids"].shape == erased.shape and tensors["ids"].dtype == np.int64
    else:
        offsets, raw = tensors["offsets"], tensors["bytes"]
        fits = offsets.shape == (len(erased) + 1,) and offsets.dtype == np.int64 and raw.dtype == np.uint8
        fits = fits and raw.ndim == 1 and offsets[0] == 0 and offsets[-1] == len(raw)
        fits = fits and bool((offsets[1:] >= offsets[:-1]).all())
    if not fits or erased.ndim != 1:
        raise ValueError("the ids are damaged")
    items = Vocabulary.from_tensors(tensors)
    items.row("")  # builds the table of rows: ids that stand twice are found now
    return items


def _load_source(role: str, config: Mapping[str, Any] | None, bundle: Bundle) -> Source | None:
    if config is None:
        return None
    prefix = f"{role}-"
    parts: Parts = {name.removeprefix(prefix): part for name, part in bundle.tensors.items() if name.startswith(prefix)}
    return SOURCES[config["kind"]].load(config["name"], config["config"], parts)


def _attributes(bundle: Bundle, size: int) -> ItemAttributes | None:
    if bundle.items is None:
        return None
    from leanrec.features.items import ItemAttributes

    return ItemAttributes.from_parquet(bundle.items, size)


def save_histories(histories: HistoryStore, folder: Path, items: Vocabulary) -> None:
    """Write what is known of every user, unless it is there already."""
    from leanrec.events.history import FolderHistory

    if isinstance(histories, FolderHistory) and histories.folder.resolve() == folder.resolve():
        return
    users = histories.users()
    rows = (items.rows(histories.get(user) or ()) for user in users)
    FolderHistory.save(folder, Vocabulary(users), items, Jagged.from_rows(row[row >= 0] for row in rows))


def load_histories(folder: Path) -> HistoryStore | None:
    """The histories in a folder, or None when it is not there."""
    if current_folder(folder) is None:
        return None
    from leanrec.events.history import FolderHistory

    return FolderHistory(folder)
