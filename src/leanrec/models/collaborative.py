"""What the models of who has what share: vectors of users and items, trained in epochs, judged on validation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, to_dict
from leanrec.core.console import say
from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.kernels.blas import blas_threads
from leanrec.kernels.graph import propagate
from leanrec.models.base import FitOptions, Model
from leanrec.models.collaborative_fitting import DEFAULTS_VERSION, CollaborativeFitting, from_spectrum
from leanrec.models.forecasts_trained import Batch, pairs_memory
from leanrec.runtime.recommender import Recommender
from leanrec.training.memory import MemoryNeed, ensure_memory
from leanrec.training.pairs import PairLoader, PairTask, UserLoader
from leanrec.training.schedules import check_schedule
from leanrec.training.tracking import open_trackers

__all__ = ["CollaborativeConfig", "CollaborativeModel", "Served", "check_at_least", "fold_by_least_squares"]

_PREDICTIONS_BETWEEN = 1_000_000
_MOST_BETWEEN = 10


class CollaborativeConfig(Config, frozen=True, kw_only=True):
    """Settings that all of them have. What is None is chosen from the data (rule version 1) and printed."""

    dim: int = 64
    """Width D of the vectors."""
    lr: float = 0.01
    schedule: str = "constant"
    """How the rate of the vectors moves over the epochs: one of training/schedules.py."""
    std: float = 0.1
    """Standard deviation of a fresh vector's values."""
    batch: int = 1024
    """Users or pairs a step, as the model says."""
    epochs: int = 200
    """At most."""
    patience: int | None = None
    """Epochs without a better validation score before training stops; a tenth of the epochs, at least 3 validations."""
    validate_every: int | None = None
    """Epochs between validations; as many as make a million predictions, at most 10."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "dim": Choice((32, 64, 128, 256)),
        "lr": Range(1e-3, 5e-2, log=True),
    }

    def __post_init__(self) -> None:
        check_at_least(self, dim=1, batch=1, epochs=1, patience=1, validate_every=1)
        check_schedule(self.schedule)
        for key in ("lr", "std"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key} must be above 0, not {getattr(self, key)}")


def check_at_least(config: Config, **least: float) -> None:
    """ValueError naming the first field that is below its least value; None is not."""
    for key, bound in least.items():
        value = getattr(config, key)
        if value is not None and not value >= bound:
            raise ValueError(f"{key} must be at least {bound}, not {value}")


@dataclass(frozen=True, slots=True)
class Served:
    """What answers: users and items whose inner product is the score, and how another history becomes a user.

    A history is n^-power times the sum of its items' rows of `inputs` (N, D).
    """

    users_UD: npt.NDArray[np.float32]
    items_ND: npt.NDArray[np.float32]
    inputs_ND: npt.NDArray[np.float32]
    power: float


C = TypeVar("C", bound=CollaborativeConfig)


class CollaborativeModel(Model[C]):
    """Subclasses say what is trained on which batches, and what of it answers. C: the subclass's configuration."""

    Config = CollaborativeConfig

    @abstractmethod
    def task(self, config: C, train: Jagged, num_items: int, seed: int) -> PairTask[Any]:
        """Fresh; depends on the seed alone."""

    @abstractmethod
    def batches(self, config: C, train: Jagged, num_items: int, seed: int) -> PairLoader | UserLoader:
        """What the task is trained on."""

    @abstractmethod
    def served(self, config: C, task: PairTask[Any], train: Jagged) -> Served:
        """The task as it stands."""

    def resolve(self, data: Dataset) -> C:
        """The configuration with every None replaced."""
        config, events = self.config, len(data.train().values)
        if not events:
            raise InputError(
                f"{data.name} has no training events, so {self.name} has nothing to learn: prepare more data"
            )
        every = config.validate_every or max(1, min(_MOST_BETWEEN, _PREDICTIONS_BETWEEN // events))
        every = min(every, config.epochs)
        patience = config.patience or max(3 * every, config.epochs // 10)
        return msgspec.structs.replace(config, validate_every=every, patience=patience)

    @abstractmethod
    def batch(self, config: C, num_users: int) -> Batch:
        """What of a batch takes memory."""

    def memory(self, data: Dataset) -> MemoryNeed:
        config: Any = self.resolve(data)
        return pairs_memory(
            data, config.dim, self.batch(config, len(data.users)),
            spectral=from_spectrum(config), layers=getattr(config, "layers", 0),
        )  # fmt: skip

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config = self.resolve(data)
        ensure_memory(self.memory(data), f"training {self.name}", options.run)
        say(f"{self.name} (defaults {DEFAULTS_VERSION}): " + " ".join(f"{k}={v}" for k, v in to_dict(config).items()))
        fitting = CollaborativeFitting(self, config, data, options)
        with open_trackers(options.track, options.run, self.name) as tracker:
            tracker.params({**to_dict(config), "seed": options.seed})
            return fitting.run(tracker)


def fold_by_least_squares(
    users_UD: npt.NDArray[np.float32], items_ND: npt.NDArray[np.float32], train: Jagged
) -> tuple[npt.NDArray[np.float32], float]:
    """(N, D) inputs and power of `Served` for vectors that were trained apart from each other.

    The linear map of items that, summed over the histories of the known users, comes closest to their vectors.
    """
    sums_UD, scratch_UD = np.zeros(users_UD.shape, np.float32), np.empty(users_UD.shape, np.float32)
    ones = np.ones(max(len(train), len(items_ND)), np.float32)
    propagate(
        train.offsets, train.values.astype(np.int32), ones, np.ascontiguousarray(items_ND), scratch_UD, sums_UD, 0,
        len(train),
    )  # fmt: skip
    lengths_U1 = np.maximum(train.lengths, 1)[:, None]
    found = []
    with blas_threads(1):
        for power in (0.5, 1.0):
            means_UD = sums_UD.astype(np.float64) * lengths_U1**-power
            gram_DD = means_UD.T @ means_UD
            gram_DD[np.diag_indices_from(gram_DD)] += 1e-3 * np.trace(gram_DD) / len(gram_DD) + 1e-12
            map_DD = np.linalg.solve(gram_DD, means_UD.T @ users_UD)
            found.append((float(((means_UD @ map_DD - users_UD) ** 2).sum()), power, map_DD))
        _, power, map_DD = min(found, key=lambda one: one[0])
        return (items_ND @ map_DD).astype(np.float32), power
