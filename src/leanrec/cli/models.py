"""`leanrec models`."""

from __future__ import annotations

from leanrec.cli.options import Json
from leanrec.cli.output import emit

__all__ = ["models"]


def models(*, json: Json = False) -> int:
    """List the models that can be trained, with one line each."""
    from leanrec.models import MODELS

    found = [
        {"model": name, "summary": entry.summary, "extra": entry.extra or None}
        for name, entry in MODELS.entries.items()
    ]
    width = max(len(name) for name in MODELS)
    lines = [
        f"{m['model']:<{width}}  {m['summary']}" + (f"  (pip install 'leanrec[{m['extra']}]')" if m["extra"] else "")
        for m in found
    ]
    return emit("\n".join(lines), {"models": found}, json)
