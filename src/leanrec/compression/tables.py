"""What steps that change item vectors share: what matters about them, putting others in place, and what that cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.compression.base import StepRecord, Work, with_source
from leanrec.compression.encoder import run_alike
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.index import INDEXES
from leanrec.index.vectors import Float32Vectors, ItemVectors, Weighting
from leanrec.index.vectors.low_rank import LowRankVectors
from leanrec.runtime.base import Engine
from leanrec.runtime.engines import ENGINES
from leanrec.runtime.engines.factors import FactorsEngine
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = [
    "KINDS",
    "error_facts",
    "inputs_of",
    "kept_as",
    "rewritable",
    "sample_queries",
    "weighting_of",
    "with_vectors",
    "written",
]

F32 = npt.NDArray[np.float32]
KINDS = ("bfloat16", "int8", "int6", "int5", "int4", "int2", "product")
"""Ways in which item vectors take fewer bytes."""
_QUERIES = 8192
_BLOCK = 1 << 14


def rewritable(model: Recommender, *, low_rank: bool = False) -> EmbeddingSource | str:
    """The source whose item vectors are float32 (low_rank: or factors in float32), else why they are not rewritten."""
    source = model.source
    if not isinstance(source, EmbeddingSource):
        return f"{source.name} has no item vectors"
    vectors = source.items
    plain = vectors.factors if low_rank and isinstance(vectors, LowRankVectors) else vectors
    if not isinstance(plain, Float32Vectors):
        return f"the item vectors of {source.name} are kept as {vectors.kind} already"
    return source


def sample_queries(model: Recommender, work: Work, count: int = _QUERIES) -> Queries:
    """Questions like those that will be asked: users that tune, with what training knows of them, cut at random places
    where the order is known."""
    data, rng = work.data, np.random.default_rng(work.seed)
    histories = data.train()
    if model.items != data.items:
        rows = model.items.rows(data.items.ids())[histories.values]
        histories = Jagged(rows, histories.offsets).where(rows >= 0)
    users = np.flatnonzero((histories.lengths > 0) & ~data.certify)
    users = rng.permutation(users)[:count]
    chosen = histories.take(users)
    if data.protocol.ordered and len(users):
        lengths = 1 + rng.integers(0, chosen.lengths)
        place = np.arange(len(chosen.values)) - chosen.offsets[:-1][chosen.row_of()]
        chosen = chosen.where(place < lengths[chosen.row_of()])
    same = model.users is not None and model.users == data.users
    return Queries(chosen.last(512), 1, users=users.astype(np.int32) if same else None)


def weighting_of(source: EmbeddingSource, queries: Queries, work: Work, *, targets: float, asked: float) -> Weighting:
    """Rows weigh (how often they occur in training + 1) ^ targets; the metric is `asked` parts the queries' second
    moments and the rest of it the identity of the same size."""
    values = work.data.train().values
    counts_N = np.bincount(values[values < source.num_items], minlength=source.num_items).astype(np.float64)
    rows_N = (counts_N + 1) ** targets if len(counts_N) == source.num_items else np.ones(source.num_items)
    if not len(queries) or not asked:
        return Weighting(rows_N=rows_N)
    vectors_BD = source.encode(queries).astype(np.float64)
    metric_DD = vectors_BD.T @ vectors_BD / len(vectors_BD)
    size = float(np.trace(metric_DD)) / len(metric_DD)
    return Weighting(rows_N=rows_N, metric_DD=asked * metric_DD + (1 - asked) * size * np.eye(len(metric_DD)))


def kept_as(kind: str, dim: int, code_bytes: int) -> tuple[str, dict[str, Any]]:
    """The kind of item vectors and its settings for one of `KINDS`: product codes stand in a basis in which at most
    `code_bytes` bytes share what matters of D values evenly, each with values to name."""
    if kind != "product":
        return kind, {}
    splits = -(-dim // -(-dim // code_bytes))
    return "low-rank", {
        "rank": dim, "factors": "product", "factors_options": {"code_bytes": splits}, "splits": splits,
    }  # fmt: skip


def with_vectors(
    model: Recommender, vectors: ItemVectors, index: str, inputs: ItemVectors | None = None
) -> Recommender:
    """The same recommender, reading and searching other item vectors, and folding in from other `inputs`."""
    source = model.source
    assert isinstance(source, EmbeddingSource), "only embeddings have item vectors"
    engine: Engine = ENGINES[source.engine.kind].load(source.engine.config(), source.engine.tensors(), vectors)
    if inputs is not None and isinstance(engine, FactorsEngine):
        engine = engine.with_inputs(inputs, vectors)
    engine = run_alike(source.engine, engine)
    return with_source(model, EmbeddingSource(source.name, engine, INDEXES[index].over(vectors)))


def inputs_of(source: EmbeddingSource) -> ItemVectors | None:
    """The second table of item vectors that some factor models fold histories in from."""
    return source.engine.inputs if isinstance(source.engine, FactorsEngine) else None


def with_inputs(facts: dict[str, Any], before: ItemVectors | None, after: ItemVectors | None) -> dict[str, Any]:
    """The facts with the bytes of the second table added."""
    if before is None or after is None:
        return facts
    total = facts["bytes_after"] + after.nbytes
    more = {"bytes_before": facts["bytes_before"] + before.nbytes, "bytes_after": total}
    return {**facts, **more, "bytes_per_item": total / max(len(after), 1)}


def error_facts(before: ItemVectors, after: ItemVectors, weighting: Weighting) -> dict[str, Any]:
    """Bytes before and after, and squared errors as parts of the squares: of the values alike, and as they matter."""
    weights_N = np.ones(len(before)) if weighting.rows_N is None else weighting.rows_N
    metric_DD = np.eye(before.shape[1]) if weighting.metric_DD is None else weighting.metric_DD
    plain, weighed = np.zeros(2), np.zeros(2)
    for low, rows_nD in before.blocks():
        wide_nD = rows_nD.astype(np.float64)
        missed_nD = after.block(low, low + len(rows_nD)) - wide_nD
        for at, part_nD in enumerate((missed_nD, wide_nD)):
            plain[at] += np.square(part_nD).sum()
            cost_n = np.einsum("nd,nd->n", part_nD @ metric_DD, part_nD)
            weighed[at] += float(cost_n @ weights_N[low : low + len(rows_nD)])
    return {
        "bytes_before": before.nbytes,
        "bytes_after": after.nbytes,
        "bytes_per_item": after.nbytes / max(len(after), 1),
        "error": float(plain[0] / max(plain[1], 1e-300)),
        "weighted_error": float(weighed[0] / max(weighed[1], 1e-300)),
    }


def written(name: str, what: str, facts: dict[str, Any]) -> StepRecord:
    """The record of item vectors that were replaced."""
    before, after = facts["bytes_before"], facts["bytes_after"]
    said = (
        f"item vectors as {what}: {after:,} bytes instead of {before:,} ({before / max(after, 1):.2f} times fewer), "
        f"error {facts['error']:.2%} of the squares, {facts['weighted_error']:.2%} as they matter"
    )
    return StepRecord(step=name, applied=True, said=said, facts=facts)
