"""A bundle's encoder, and its search if asked, as an ONNX file that others can run."""

from __future__ import annotations

import json
from pathlib import Path

from leanrec.core.config import Config
from leanrec.core.errors import InputError
from leanrec.core.files import disk_errors
from leanrec.runtime.graphs import export_graph, graph_of
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.ways.base import DrivenEngine

__all__ = ["ExportJob", "Exported", "export"]


class ExportJob(Config, frozen=True, kw_only=True):
    """What `leanrec export` is told."""

    bundle: str
    onnx: str
    table: bool = True
    """With the item table in the file."""
    k: int | None = None
    """Answer with so many items in the place of the query vector."""
    include_seen: bool | None = None
    """Whether the answer may hold items of the history; as the bundle says where None."""


class Exported(Config, frozen=True, kw_only=True):
    """What was written: names and shapes of what goes in and comes out, and where the ids of the rows are."""

    onnx: str
    ids: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    window: int
    """Events of a history that count; longer ones have to be cut to the newest."""


def export(job: ExportJob) -> Exported:
    """Write FILE, and FILE.ids.json with the id of every row. InputError where the bundle has no such encoder."""
    if job.k is not None and job.k < 1:
        raise InputError(f"--k {job.k} must be at least 1")
    recommender = Recommender.load(job.bundle)
    source = recommender.source
    if not isinstance(source, EmbeddingSource):
        raise InputError(f"{job.bundle} answers by {source.kind!r}, which has no encoder to write as an ONNX graph")
    engine = source.engine.engine if isinstance(source.engine, DrivenEngine) else source.engine
    include_seen = recommender.repeats if job.include_seen is None else job.include_seen
    about = f"{source.name}, bundle {recommender.id}"
    model = graph_of(
        engine, table=job.table, k=job.k, exclude_seen=not include_seen, never_N=recommender.items.erased,
        about=about,
    )  # fmt: skip
    path = Path(job.onnx)
    ids = path.with_name(f"{path.name}.ids.json")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        export_graph(model, path)
        ids.write_text(json.dumps(recommender.items.ids()))
    first, last = {i.name: _shape(i) for i in model.graph.input}, {o.name: _shape(o) for o in model.graph.output}
    return Exported(onnx=str(path), ids=str(ids), inputs=first, outputs=last, window=getattr(engine, "window", 0))


def _shape(value: object) -> str:
    tensor = value.type.tensor_type  # type: ignore[attr-defined]
    kind = {1: "float32", 7: "int64"}[tensor.elem_type]
    sizes = ", ".join(side.dim_param or str(side.dim_value) for side in tensor.shape.dim)
    return f"{kind} ({sizes})"
