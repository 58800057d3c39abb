"""How the encoder runs: by the way, and with the threads, that measured fastest on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leanrec.compression.base import Step, StepConfig, StepRecord, Work, with_source
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension
from leanrec.kernels.blas import blas_threads
from leanrec.runtime.base import TimedEngine
from leanrec.runtime.engines.sequence import SequenceEngine
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.ways import DrivenEngine, drive
from leanrec.runtime.ways.choose import Measured, choose

__all__ = ["RunBy", "RunByConfig"]

FASTEST = "fastest"
SERVING = ("plain", "packed", "fixed", "onnxruntime", "openvino")
"""Ways that a server may use; `fastest` measures them all."""
_PAYS = 1.1
"""Another way that is not 10 % faster is not worth having."""
_JUDGED, _REPEATS = 32, 20
_SHARES = (0.25, 0.5, 0.9)


class RunByConfig(StepConfig, frozen=True, kw_only=True):
    """Which way, and how many threads a call may use."""

    way: str = FASTEST
    """A way to run an encoder, or `fastest`: all that can serve are measured, and one that is not a tenth faster than
    the encoder as it is, is not taken."""
    threads: int = 1
    """Of a call; answers that are made at the same time share them. 0: one, and all that there are, are measured."""
    together: int = 1
    """Histories of a call; 1 measures a short, a usual and a long one."""
    overlap: float = 0.98
    """Least share of the ten best items that must stay."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "way": Choice((FASTEST, "packed", "fixed", "onnxruntime", "openvino")), "threads": Choice((1, 0))
    }  # fmt: skip

    def __post_init__(self) -> None:
        if self.way not in (FASTEST, *SERVING):
            raise ValueError(f"way is one of {', '.join((FASTEST, *SERVING))}, not {self.way!r}")
        if self.threads < 0 or self.together < 1 or not 0 <= self.overlap <= 1:
            raise ValueError("threads is at least 0, together at least 1, and overlap lies from 0 to 1")


class RunBy(Step[RunByConfig]):
    """The arrays stay as they are; the bundle says how they are to be run, and `facts` what was measured."""

    name = "engine"
    stage = "engine"
    Config = RunByConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        source, config = model.source, self.config
        if not isinstance(source, EmbeddingSource):
            return self.left(model, f"{source.name} has no encoder to run")
        engine = source.engine
        if isinstance(engine, DrivenEngine):
            if config.way in (FASTEST, engine.way["name"]) and config.threads in (0, engine.way["threads"]):
                return self.left(model, f"the encoder of {source.name} runs as {engine.way['name']!r} already")
            engine = engine.engine
        if not isinstance(engine, SequenceEngine) or isinstance(engine, TimedEngine):
            return self.left(model, f"{source.name} has an encoder ({engine.kind}) without other ways to run")
        with blas_threads(1):
            found = choose(
                engine,
                _loads(work.histories, config.together),
                ways=SERVING if config.way == FASTEST else ("plain", config.way),
                threads=(config.threads,) if config.threads else (),
                judged=_some(work.histories, _JUDGED),
                least_overlap=config.overlap,
                repeats=_REPEATS,
            )
        best = self._best(found.table, found.best)
        facts: dict[str, Any] = {"measured": [_facts(one) for one in found.table]}
        if best is None:
            problem = next((one.problem for one in found.table if one.name == config.way and one.problem), "")
            return self.left(model, problem or f"{config.way} changes more of the ten best items than it may", facts)
        plain = min(_total(one) for one in found.table if one.name == "plain")
        times = f"{1e6 * plain:.0f} us as it is, {1e6 * _total(best):.0f} us as {best.name!r}, mean of the calls tried"
        if config.way == FASTEST and _total(best) * _PAYS > plain:
            return self.left(model, f"no other way to run the encoder pays on this machine: {times}", facts)
        wanted = {"name": best.name, "threads": best.threads}
        lean = with_source(model, EmbeddingSource(source.name, drive(engine, wanted), source.index))
        threads = f"{best.threads} thread{'s' * (best.threads > 1)}"
        said = f"the encoder takes {times}, {threads}; {best.overlap:.2%} of the ten best stay"
        return lean, StepRecord(step=self.name, applied=True, said=said, facts={**wanted, **facts})

    def _best(self, table: Sequence[Measured], fastest: Measured) -> Measured | None:
        """The fastest; or of the way that was named the fastest number of threads, None where it cannot be."""
        if self.config.way == FASTEST:
            return fastest
        fit = [
            one for one in table
            if one.name == self.config.way and not one.problem and one.overlap >= self.config.overlap
        ]  # fmt: skip
        return min(fit, key=_total, default=None)


def _loads(histories: Jagged, together: int) -> dict[str, Jagged]:
    if together > 1:
        return {f"{together} together": _some(histories, together)}
    order = np.argsort(histories.lengths, kind="stable")
    places = {share: int(order[int(share * (len(order) - 1))]) for share in _SHARES}
    return {f"{int(histories.lengths[at])} events": histories.slice(at, at + 1) for at in places.values()}


def _some(histories: Jagged, count: int) -> Jagged:
    return histories.slice(0, min(count, len(histories)))


def _total(one: Measured) -> float:
    return float(np.mean(list(one.seconds.values()))) if one.seconds else float("inf")


def _facts(one: Measured) -> dict[str, Any]:
    times = {load: 1e6 * seconds for load, seconds in one.seconds.items()}
    return {"way": one.name, "threads": one.threads, "us": times, "overlap": one.overlap, "problem": one.problem}
