"""The contract of a model: a configuration and `fit`, which turns a Dataset into a Recommender."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from leanrec.core.config import Config, build, to_dict
from leanrec.core.errors import ConfigError, InputError
from leanrec.data.dataset import Dataset
from leanrec.events.memory import MemoryHistory, joined_histories
from leanrec.runtime.recommender import Recommender
from leanrec.training.memory import MemoryNeed

if TYPE_CHECKING:
    from leanrec.models.additions import Additions
    from leanrec.training.soft import SoftLabels

__all__ = ["FitOptions", "Model"]

C = TypeVar("C", bound=Config)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """How to fit, apart from the model: models that do not train in epochs use only what concerns them."""

    seed: int = 0
    refit: bool = False
    """Settings and length of training from validation, then trained again on train + validation."""
    run: Path | None = None
    """Run folder for checkpoints, logs and `bundle/`; None keeps everything in memory."""
    resume: bool = False
    save_every: float = 60.0
    """Seconds between checkpoints that an interrupted run goes on from."""
    time_limit: float | None = None
    """Seconds of training after which the best so far is kept."""
    metric: str = "ndcg@10"
    """What validation measures."""
    on_score: Callable[[int, float], None] | None = None
    """Told the epoch and its score after each validation; what it raises ends the fit."""
    soft: SoftLabels | None = None
    """What teachers say of the training events: sequence models that predict what comes next learn from it too."""
    soft_share: float = 0.5
    """What that counts for, of 1."""
    distributed: bool = False
    """This process is one of a torch.distributed group that fits together; all of its files are the first one's."""
    track: tuple[str, ...] = ("tensorboard",)
    """Trackers that a run with a folder writes to, see training.tracking."""
    profile: bool = False
    """Whether a run with a folder says where its time goes, see training.profile."""

    def on(self, data: Dataset) -> FitOptions:
        """As a person means them: where validation was only drawn from train, the result learns all of train."""
        return replace(self, refit=self.refit or data.protocol.drawn_valid)


class Model(ABC, Generic[C]):
    """A configuration with one way to fit it.

    `Model(dim=128)` builds the configuration from keywords; an unknown one is refused with the nearest valid name.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Config]]

    def __init__(self, config: C | None = None, **overrides: Any) -> None:
        values = {**(to_dict(config) if config is not None else {}), **overrides}
        self.config: C = build(self.Config, values, where=self.name)  # type: ignore[assignment]

    @abstractmethod
    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        """Fit on the training part of `data` (train + validation when `options.refit`)."""

    def fit(self, data: Dataset, **options: Any) -> Recommender:
        """`fit_with` from keywords, ready to answer for known users: `SASRec(dim=64).fit(data, seed=1)`."""
        recommender = self.fit_with(data, FitOptions(**options).on(data))
        recommender.histories = MemoryHistory(data.users, data.items, data.known("test"))
        return recommender

    def partial_fit(self, recommender: Recommender, data: Dataset, **options: Any) -> Recommender:
        """A new Recommender that has learned the training part of `data` too: `data` holds only what is new.

        recommender: what `fit` or `partial_fit` of this model gave; it is not changed. Its users and items keep their
        rows, those that only `data` knows come after them; a known user's new events come after the old ones. Settings
        that were chosen from data stay. Where the mathematics is exact (neighbours, closed forms) the answers are those
        of a fit on all the events; where it is not (gradients), the docstring of the model's `update` says what is
        done. ConfigError from models that have to see all events at once, and where `recommender` is another model's
        or no longer holds what it takes.
        """
        if recommender.card.get("model") != self.name:
            raise ConfigError(f"{self.name} cannot go on from a {recommender.card.get('model')!r}: fit it anew")
        updated = self.update(recommender, data, FitOptions(**options))
        updated.histories = joined_histories(recommender.histories, data.users, data.items, data.known("test"))
        return updated

    def memory(self, data: Dataset) -> MemoryNeed:
        """What training on this data into a run folder needs, beside what the process holds already.

        InputError from models that have no forecast.
        """
        raise InputError(f"{self.name} has no forecast of its memory: {data.name} has to be tried")

    def add_items(self, recommender: Recommender, added: Additions) -> Recommender:
        """The recommender with more items at the end of its numbering, each with a vector made of its attributes.

        Nothing is trained: the old items' vectors stay bit for bit, except where they are shares of the whole catalogue
        (`content`). InputError from models that know an item only by who had it.
        """
        del added
        raise InputError(
            f"{recommender.card.get('model')} knows items by who had them, and nobody had a new one yet: train again "
            "with its first events, or use a model that reads attributes (content, text-encoder, two-tower, esasrec "
            "with text=gate or align)"
        )

    def update(self, recommender: Recommender, data: Dataset, options: FitOptions) -> Recommender:
        """What `partial_fit` does; histories are seen to by the caller.

        What the source alone does not hold lies in `Recommender.learned`, which `fit_with` leaves there: it lives as
        long as the object, and is never part of the bundle.
        """
        raise ConfigError(f"{self.name} has to see all events at once: fit it anew on old and new events together")
