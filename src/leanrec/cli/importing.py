"""`leanrec import`."""

from __future__ import annotations

from pathlib import Path

from leanrec.cli.options import Json, Settings
from leanrec.cli.output import emit

__all__ = ["import_"]


def import_(
    kind: str,
    path: Path,
    /,
    *,
    out: Path,
    data: Path | None = None,
    items: Path | None = None,
    users: Path | None = None,
    config: Path | None = None,
    settings: Settings = (),
    json: Json = False,
) -> int:
    """Bring in a trained model from elsewhere, with the scores it gives there.

    Args:
        kind: implicit (the .npz its models save), rectools (vectors and ids as .npz), torch (safetensors weights).
        path: The file; nothing in it is executed or unpickled.
        out: The bundle to write.
        data: A prepared data set: ids by row where nothing else names them, histories of known users, attributes.
        items: A table with the column item_id, in the order of the model's rows.
        users: A table with the column user_id, in the order of the model's rows.
        config: A TOML file of settings: which array is what.
        settings: One setting, above the file's; may stand several times.
    """
    from leanrec.core.config import load_toml, parse_overrides
    from leanrec.jobs.importing import ImportJob, import_model

    job = ImportJob(
        kind=kind,
        path=str(path),
        out=str(out),
        data=None if data is None else str(data),
        items=None if items is None else str(items),
        users=None if users is None else str(users),
        settings={**(load_toml(config) if config else {}), **parse_overrides(settings)},
    )
    recommender = import_model(job)
    counts = {"items": len(recommender.items), "users": 0 if recommender.users is None else len(recommender.users)}
    found = {"bundle": recommender.id, "out": str(out), **counts, "card": dict(recommender.card)}
    text = f"{kind} {recommender.id[:12]} in {out}: {counts['items']:,} items, {counts['users']:,} users"
    return emit(text, found, json)
