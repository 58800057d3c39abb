"""How a process answers with the bundle: batches, threads of scans, cores, answers that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from leanrec.compression.base import Step, StepConfig, StepRecord, Work, with_source
from leanrec.core.config import to_dict
from leanrec.core.space import Choice, Dimension
from leanrec.runtime.answering import Answering
from leanrec.runtime.recommender import Recommender

__all__ = ["AnswerAs", "AnswerAsConfig"]


class AnswerAsConfig(StepConfig, Answering, frozen=True, kw_only=True):
    """Nothing is measured here: which settings pay is seen when the bundle is, at the load that is stated."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "pinned": Choice((False, True)), "kept_answers": Choice((0, 10_000)), "threads": Choice((0, 1)),
        "max_batch": Choice((64, 16, 256)),
    }  # fmt: skip


class AnswerAs(Step[AnswerAsConfig]):
    """The bundle recommends it; a server takes it where it is not told otherwise. Answers stay the same."""

    name = "serving"
    stage = "serving"
    Config = AnswerAsConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        wanted = Answering(**to_dict(self.config))
        if wanted == (model.answering or Answering()):
            return self.left(model, f"a process answers so already: {wanted}")
        lean = with_source(model, model.source)
        lean.answering = wanted
        return lean, StepRecord(step=self.name, applied=True, lossless=True, said=str(wanted), facts=to_dict(wanted))
