"""The contract of a model: a configuration and `fit`, which turns a Dataset into a Recommender."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from leanrec.core.config import Config, build, to_dict
from leanrec.data.dataset import Dataset
from leanrec.events.memory import MemoryHistory
from leanrec.runtime.recommender import Recommender

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
    distributed: bool = False
    """This process is one of a torch.distributed group that fits together; all of its files are the first one's."""
    track: tuple[str, ...] = ("tensorboard",)
    """Trackers that a run with a folder writes to, see training.tracking."""
    profile: bool = False
    """Whether a run with a folder says where its time goes, see training.profile."""


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
        recommender = self.fit_with(data, FitOptions(**options))
        recommender.histories = MemoryHistory(data.users, data.items, data.known("test"))
        return recommender
