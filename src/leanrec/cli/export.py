"""`leanrec export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from leanrec.cli.options import Flag, Json
from leanrec.cli.output import emit

__all__ = ["export"]


def export(
    bundle: Path,
    /,
    *,
    onnx: Path,
    k: int | None = None,
    without_table: Annotated[Flag, Parameter(name="--without-table")] = False,
    include_seen: Annotated[
        bool | None, Parameter(name="--include-seen", negative="--exclude-seen", show_default=False)
    ] = None,
    json: Json = False,
) -> int:
    """Write a bundle's encoder as an ONNX file that others can run; FILE.ids.json says which row is which item.

    Args:
        bundle: A bundle or a run folder.
        onnx: The file to write.
        k: Answer with so many items and their scores in the place of the query vector.
        without_table: Leave the item table out: item vectors come in, in the place of rows.
        include_seen: Whether answers may hold items of the history (default: as the bundle says).
    """
    from leanrec.jobs.export import ExportJob
    from leanrec.jobs.export import export as write

    done = write(ExportJob(bundle=str(bundle), onnx=str(onnx), table=not without_table, k=k, include_seen=include_seen))
    told = [f"{name}: {shape}" for name, shape in (done.inputs | done.outputs).items()]
    text = (
        f"{done.onnx} takes the newest {done.window} events at most\n" + "\n".join(told) + f"\nids by row: {done.ids}"
    )
    fields = {name: getattr(done, name) for name in ("onnx", "ids", "inputs", "outputs", "window")}
    return emit(text, fields, json)
