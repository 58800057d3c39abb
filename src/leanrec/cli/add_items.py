"""`leanrec add-items`."""

from __future__ import annotations

from pathlib import Path

from leanrec.cli.options import Json
from leanrec.cli.output import emit

__all__ = ["add_items"]


def add_items(
    bundle: Path,
    items: Path,
    /,
    *,
    out: Path | None = None,
    item_col: str = "item_id",
    json: Json = False,
) -> int:
    """Give new items vectors made of their attributes, without training; for models that read attributes or texts.

    Args:
        bundle: A bundle or a run folder; it is written anew unless --out names another place.
        items: A table of items, with the columns that `prepare --items` had; those known already stay as they are.
        out: The bundle to write.
        item_col: The column of the ids.
    """
    import msgspec

    from leanrec.jobs.add_items import AddItemsJob
    from leanrec.jobs.add_items import add_items as add

    job = AddItemsJob(bundle=str(bundle), items=str(items), out=None if out is None else str(out), item_col=item_col)
    done = add(job)
    known = f", {done.known:,} were known already" if done.known else ""
    said = f"{done.added:,} items added to {done.model}{known}; {done.items:,} in all, written to {done.path}"
    return emit(said, msgspec.to_builtins(done), json)
