"""A Recommender to the files and plain values of a bundle, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrec.core.config import build, to_dict
from leanrec.core.errors import BundleError, InputError, LeanrecError
from leanrec.core.files import current_folder
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.events.base import HistoryStore
from leanrec.runtime.answering import Answering
from leanrec.runtime.base import Parts, Source
from leanrec.runtime.bundle import Bundle, Content
from leanrec.runtime.newcomers import Newcomers
from leanrec.runtime.sources import SOURCES

if TYPE_CHECKING:
    from leanrec.features.items import ItemAttributes
    from leanrec.runtime.recommender import Recommender

__all__ = ["load_histories", "pack", "save_histories", "unpack", "vocabulary"]

_ROLES = ("source", "fallback")
_MISFITS = (
    LeanrecError, AssertionError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What loading parts that do not fit may end in. No MemoryError: sizes are checked before anything is made of them."""


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
    if recommender.answering is not None:
        config["answering"] = to_dict(recommender.answering)
    if recommender.attributes is not None:
        files["items.parquet"] = recommender.attributes.parquet()
    return files, config


def unpack(bundle: Bundle) -> dict[str, Any]:
    """The arguments of the Recommender in a verified bundle; a BundleError when its parts do not fit together."""
    manifest, config = bundle.manifest, bundle.manifest.recommender
    try:
        if set(config) - {"newcomers", "answering"} != {"repeats", *_ROLES} or not isinstance(config["repeats"], bool):
            raise ValueError("its configuration is not one of a recommender")
        _refuse_strays(bundle.tensors, config)
        items = vocabulary(bundle.tensors["ids"])
        users = vocabulary(bundle.tensors["users"]) if "users" in bundle.tensors else None
        newcomers = Newcomers(dict(config["newcomers"]), bundle.tensors["newcomers"]) if "newcomers" in config else None
        answering = build(Answering, config["answering"], where="answering") if "answering" in config else None
        if answering is not None:
            _refuse_unread(to_dict(answering), config["answering"], "answering")
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
        raise BundleError(f"{bundle.path}: {_short(error)}") from error
    except _MISFITS as error:
        raise BundleError(
            f"the parts of {bundle.path} do not fit together ({_short(error)}): write it again"
        ) from error
    facts = {"card": manifest.card, "lineage": manifest.lineage, "certificate": manifest.certificate}
    return {
        "items": items,
        "users": users,
        "repeats": config["repeats"],
        "attributes": _attributes(bundle, len(items)),
        "newcomers": newcomers,
        "answering": answering,
        **sources,
        **facts,
    }


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-90:]}"


def _refuse_strays(tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    roles = tuple(f"{role}-" for role in _ROLES if config[role] is not None)
    own = ("ids", "users", "newcomers") if "newcomers" in config else ("ids", "users")
    for stem in tensors:
        if stem not in own and not stem.startswith(roles):
            raise ValueError(f"{stem}.safetensors belongs to nothing")


def vocabulary(tensors: Mapping[str, Any]) -> Vocabulary:
    """The ids in a file of a bundle, ready to be looked up; ValueError when they are damaged or stand twice."""
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
    source = SOURCES[config["kind"]].load(config["name"], config["config"], parts)
    _refuse_unread({"kind": source.kind, "name": source.name, "config": source.config()}, config, role)
    own = source.parts()
    _refuse_unread(
        {stem: dict.fromkeys(own[stem], 0) for stem in own}, {s: dict.fromkeys(parts[s], 0) for s in parts}, role
    )
    return source


def _refuse_unread(read: Any, written: Any, where: str) -> None:
    """ValueError for what is in the bundle and not in the source that was made of it: another leanrec meant something
    by it. What the source holds and the bundle does not is a default that came later.
    """
    if isinstance(written, Mapping) and isinstance(read, Mapping):
        for key, value in written.items():
            if key not in read:
                raise ValueError(f"{where}.{key} means nothing to this leanrec")
            _refuse_unread(read[key], value, f"{where}.{key}")
    elif isinstance(written, list) and isinstance(read, list | tuple):
        if len(written) != len(read):
            raise ValueError(f"{where} has {len(written)} entries, of which {len(read)} are read")
        for place, (value, meant) in enumerate(zip(written, read, strict=True)):
            _refuse_unread(meant, value, f"{where}.{place}")
    elif written != read or isinstance(written, bool) != isinstance(read, bool):
        raise ValueError(f"{where} is {str(written)[:50]!r} and read as {str(read)[:50]!r}")


def _attributes(bundle: Bundle, size: int) -> ItemAttributes | None:
    if bundle.items is None:
        return None
    from leanrec.data.parquet import check_small_parquet
    from leanrec.features.items import ItemAttributes

    try:
        check_small_parquet(bundle.items, size, "items.parquet")
    except InputError as error:
        raise BundleError(f"{bundle.path}: {error}") from error
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
