"""`leanrec verify`."""

from __future__ import annotations

from pathlib import Path

from leanrec.cli.options import Json
from leanrec.cli.output import emit

__all__ = ["verify"]


def verify(bundle: Path, /, *, against: Path | None = None, data: Path | None = None, json: Json = False) -> int:
    """Check every byte of a bundle and, against the bundle it was made from, the certificate of what that cost.

    Args:
        bundle: A bundle or a run folder.
        against: The bundle or run folder it was compressed from.
        data: The data set the certificate was made with.
    """
    from leanrec.compression.verify import verify as check

    found = check(bundle, against, data)
    return emit(str(found), {"bundle": str(bundle), **found.to_dict()}, json)
