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
    import msgspec

    from leanrec.jobs.verify import VerifyJob, verify_bundle

    job = VerifyJob(bundle=str(bundle), against=str(against) if against else None, data=str(data) if data else None)
    found = verify_bundle(job)
    return emit("\n".join(found.sentences), msgspec.to_builtins(found), json)
