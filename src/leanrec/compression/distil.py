"""Distillation: a small sequence model learns from the training events and from what larger ones would answer there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.compression.base import Step, StepConfig, StepRecord, Work
from leanrec.compression.memory import remember, remembered
from leanrec.core.config import to_dict
from leanrec.core.console import Progress, step
from leanrec.core.errors import ConfigError, InputError
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.runtime.recommender import Recommender

if TYPE_CHECKING:
    from leanrec.training.soft import SoftLabels

__all__ = ["Distil", "labels_of"]

_BLOCK = 512


class DistilConfig(StepConfig, frozen=True, kw_only=True):
    """The student, its teachers, and how much they say."""

    model: str = "sasrec"
    """Any sequence model that predicts what comes next: `sasrec`, `esasrec`, `gsasrec`, `gru4rec`, `caser`, `hstu`."""
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    """The student's, as for training it: layers, dropout, ..."""
    dim: int | None = None
    """Width of the student, where `settings` do not say it."""
    teachers: tuple[str, ...] = ()
    """Paths of bundles that teach too, beside the recommender itself; their shares are averaged."""
    top: int = 20
    """Items that the teachers name at an event."""
    temperature: float = 1.0
    """Shares are a softmax of scores over this, which is in deviations of a teacher's best scores."""
    share: float = 0.5
    """What the teachers count for, of 1; the events themselves count for the rest."""
    events: int = 200_000
    """Training events that teachers are asked about, drawn by the seed."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "model": Choice(("sasrec", "gru4rec", "caser")), "dim": Choice((16, 32, 64)), "share": Range(0.2, 0.9),
        "temperature": Range(0.5, 4.0, log=True),
    }  # fmt: skip


class Distil(Step[DistilConfig]):
    """The student is a recommender like any other, with item vectors of its own; a student is not taught again."""

    name = "distil"
    stage = "student"
    learns = True
    Config = DistilConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        from leanrec.models.base import FitOptions

        config, data = self.config, work.data
        student = self._student()
        if remembered(model, self.name) is not None:
            said = f"{model.source.name} is a student already: there is nothing left to teach it"
            return self.left(model, said)
        if len(model.items) != len(data.items):
            raise InputError(
                f"distil: {model.source.name} knows {len(model.items):,} items, {data.name} {len(data.items):,}"
            )
        teachers = [model, *(Recommender.load(path) for path in config.teachers)]
        for path, teacher in zip(config.teachers, teachers[1:], strict=True):
            if teacher.items != model.items:
                raise InputError(f"distil: the teacher {path} has other items: train it on the same data set")
        with step("asking the teachers"):
            soft = labels_of(teachers, data.train(), config, work.seed)
        options = FitOptions(
            seed=work.seed, time_limit=work.seconds, soft=soft, soft_share=config.share, track=(),
        )  # fmt: skip
        taught = student.fit_with(data, options)
        made = Recommender(
            taught.source, model.items, repeats=model.repeats, fallback=model.fallback, attributes=model.attributes,
            histories=model.histories, card={**taught.card, "teacher": model.card.get("model", model.source.name)},
            lineage={**model.lineage, **taught.lineage},
        )  # fmt: skip
        facts = {
            "student": student.name, "settings": to_dict(student.config), "teachers": len(teachers),
            "events": int((soft.row_E >= 0).sum()), "validation": taught.card.get("validation", []),
        }  # fmt: skip
        whom = "one teacher" if len(teachers) == 1 else f"{len(teachers)} teachers"
        said = f"{student.name} learned from {whom} at {facts['events']:,} events"
        return remember(made, self.name, self.entry()), StepRecord(step=self.name, applied=True, said=said, facts=facts)

    def _student(self) -> Any:
        from leanrec.models import MODELS
        from leanrec.models.sequential import SequenceModel

        config = self.config
        if not 0 < config.share <= 1:
            raise ConfigError(f"distil: share={config.share} is not a share: use a number above 0, at most 1")
        if config.top < 1 or config.temperature <= 0:
            raise ConfigError(f"distil: top={config.top} and temperature={config.temperature} have to be above 0")
        kind: Any = MODELS[config.model]
        if not issubclass(kind, SequenceModel) or kind.masked:
            raise ConfigError(
                f"distil: {config.model} does not predict what comes next: sasrec, gru4rec, caser, ... do"
            )
        width = {} if config.dim is None else {"dim": config.dim}
        return kind(**{**width, **config.settings})


def labels_of(teachers: Sequence[Recommender], train: Jagged, config: DistilConfig, seed: int) -> SoftLabels:
    """What teachers answer after some of the training events, each in its own block of places, shares summing to 1.

    An event's share of an item is what its score is of a softmax over the teacher's best, averaged over the teachers;
    the last event of a user has nothing after it in training and is not asked about.
    """
    from leanrec.training.soft import SoftLabels

    last = np.zeros(len(train.values), np.bool_)
    last[train.offsets[1:][train.lengths > 0] - 1] = True
    events = np.flatnonzero(~last)
    chosen = np.sort(np.random.default_rng((seed, 1)).permutation(events)[: config.events])
    row_E = np.full(len(train.values), -1, np.int32)
    row_E[chosen] = np.arange(len(chosen))
    width = config.top * len(teachers)
    items_PM, share_PM = np.zeros((len(chosen), width), np.int32), np.zeros((len(chosen), width), np.float32)
    user_T = train.row_of()
    with Progress("teachers", len(chosen)) as bar:
        for start in range(0, len(chosen), _BLOCK):
            at = chosen[start : start + _BLOCK]
            histories = _until(train, user_T, at)
            for nth, teacher in enumerate(teachers):
                hits, degraded_B = teacher.rank(histories, config.top)
                share_BM = _shares(hits.scores_BK, hits.items_BK >= 0, config.temperature)
                share_BM[degraded_B] = 0
                place = slice(nth * config.top, (nth + 1) * config.top)
                items_PM[start : start + len(at), place] = np.maximum(hits.items_BK, 0)
                share_PM[start : start + len(at), place] = share_BM
            bar.advance(len(at))
    return SoftLabels(row_E, *_merged(items_PM, share_PM))


def _until(train: Jagged, user_T: npt.NDArray[np.int64], events: npt.NDArray[np.int64]) -> Jagged:
    """The history up to and with each of these events."""
    first = train.offsets[user_T[events]]
    lengths = events + 1 - first
    ends = np.cumsum(lengths)
    flat = np.arange(int(ends[-1])) + np.repeat(first - (ends - lengths), lengths)
    return Jagged.from_lengths(train.values[flat], lengths)


def _shares(scores_BK: npt.NDArray[np.float32], there_BK: npt.NDArray[np.bool_], temperature: float) -> Any:
    """(B, K) softmax of scores in deviations of them all, over the temperature; 0 where there is no answer."""
    spread = float(np.std(scores_BK[there_BK])) if there_BK.any() else 1.0
    raw = np.where(there_BK, scores_BK.astype(np.float64) / (max(spread, 1e-9) * temperature), -np.inf)
    top = raw.max(axis=1, keepdims=True)
    power = np.exp(raw - np.where(np.isfinite(top), top, 0.0))
    return (power / np.maximum(power.sum(axis=1, keepdims=True), 1e-300)).astype(np.float32)


def _merged(items_PM: npt.NDArray[np.int32], share_PM: npt.NDArray[np.float32]) -> tuple[Any, Any]:
    """Each item once a row, with the sum of its shares, all of them 1 together (or 0)."""
    order = np.argsort(items_PM, axis=1, kind="stable")
    items, share = np.take_along_axis(items_PM, order, 1), np.take_along_axis(share_PM, order, 1).astype(np.float64)
    for at in range(items.shape[1] - 1):
        same = items[:, at] == items[:, at + 1]
        share[:, at + 1] += np.where(same, share[:, at], 0.0)
        share[:, at] = np.where(same, 0.0, share[:, at])
    total = share.sum(axis=1, keepdims=True)
    return items, (share / np.where(total > 0, total, 1.0)).astype(np.float32)
