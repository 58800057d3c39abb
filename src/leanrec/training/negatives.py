"""Where the shared negatives of a batch come from, each with how often its item is expected among them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build
from leanrec.core.errors import ConfigError
from leanrec.core.registry import Entry, Registry

__all__ = ["NEGATIVES", "Negatives", "make_negatives"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


class NoOptions(Config, frozen=True, kw_only=True):
    """A way of sampling without settings."""


class Negatives(ABC):
    """Draws n negatives for a batch, with repeats; expected counts are what log-Q corrections need."""

    Options: ClassVar[type[Config]] = NoOptions

    @abstractmethod
    def __init__(self, config: Config, counts_N: npt.NDArray[np.int64]) -> None:
        """counts_N: how often each item of the catalogue stands in the training events."""

    @abstractmethod
    def draw(self, n: int, targets_T: I32, random: np.random.Generator) -> tuple[I32, F32]:
        """(n,) items for a batch with these targets, and the log of each one's expected count among n."""


class Uniform(Negatives):
    """Every item alike."""

    def __init__(self, config: Config, counts_N: npt.NDArray[np.int64]) -> None:
        del config
        self._items = len(counts_N)

    def draw(self, n: int, targets_T: I32, random: np.random.Generator) -> tuple[I32, F32]:
        del targets_T
        items_n = random.integers(0, self._items, n, dtype=np.int32)
        return items_n, np.full(n, np.log(max(n, 1) / self._items), np.float32)


class PopularityOptions(Config, frozen=True, kw_only=True):
    """Settings of sampling by popularity."""

    exponent: float = 0.75
    """Of the number of events; 0 draws every item that has one alike."""


class Popularity(Negatives):
    """Items in proportion to a power of their number of events (word2vec's, arXiv:1310.4546); none without events."""

    Options: ClassVar[type[Config]] = PopularityOptions

    def __init__(self, config: Config, counts_N: npt.NDArray[np.int64]) -> None:
        assert isinstance(config, PopularityOptions)
        mass_N = np.where(counts_N > 0, np.maximum(counts_N, 1).astype(np.float64) ** config.exponent, 0.0)
        self._upto_N = np.cumsum(mass_N / mass_N.sum())
        self._log_share_N = _log(mass_N / mass_N.sum())

    def draw(self, n: int, targets_T: I32, random: np.random.Generator) -> tuple[I32, F32]:
        del targets_T
        # the last sum may fall short of 1 by rounding
        at_n = np.searchsorted(self._upto_N, random.random(n) * self._upto_N[-1], side="right")
        items_n = at_n.astype(np.int32)
        return items_n, self._log_share_N[items_n] + np.float32(np.log(max(n, 1)))


class InBatch(Negatives):
    """Targets of the same batch, which cost no further rows; an item's expected count is that of its share of all
    events (arXiv:2002.05522).
    """

    def __init__(self, config: Config, counts_N: npt.NDArray[np.int64]) -> None:
        del config
        self._log_share_N = _log(counts_N / counts_N.sum())

    def draw(self, n: int, targets_T: I32, random: np.random.Generator) -> tuple[I32, F32]:
        items_n = _pick(targets_T, n, random)
        return items_n, self._log_share_N[items_n] + np.float32(np.log(max(n, 1)))


class MixedOptions(Config, frozen=True, kw_only=True):
    """Settings of mixed sampling."""

    uniform: float = 0.5
    """Share of the negatives drawn from the whole catalogue; the rest are targets of the batch."""


class Mixed(Negatives):
    """Some from the whole catalogue, some from the batch (mixed negative sampling, Yang et al., WWW 2020)."""

    Options: ClassVar[type[Config]] = MixedOptions

    def __init__(self, config: Config, counts_N: npt.NDArray[np.int64]) -> None:
        assert isinstance(config, MixedOptions)
        if not 0 <= config.uniform <= 1:
            raise ConfigError(f"negative_options: uniform={config.uniform} is not a share: use a number from 0 to 1")
        self._uniform, self._items = config.uniform, len(counts_N)
        self._share_N = (counts_N / counts_N.sum()).astype(np.float32)

    def draw(self, n: int, targets_T: I32, random: np.random.Generator) -> tuple[I32, F32]:
        wide = round(n * self._uniform)
        items_n = np.concatenate(
            [random.integers(0, self._items, wide, dtype=np.int32), _pick(targets_T, n - wide, random)]
        )
        expected_n = wide / self._items + (n - wide) * self._share_N[items_n]
        return items_n, np.log(expected_n).astype(np.float32)


def _pick(targets_T: I32, n: int, random: np.random.Generator) -> I32:
    """n of the targets, each at most once while they last."""
    if n <= len(targets_T):
        return random.permutation(targets_T)[:n]
    return targets_T[random.integers(0, len(targets_T), n)]


def _log(share_N: npt.NDArray[np.float64]) -> F32:
    with np.errstate(divide="ignore"):
        result: F32 = np.log(share_N).astype(np.float32)
    return result


NEGATIVES: Registry[Negatives] = Registry(
    "source of negatives",
    {
        "uniform": Entry("leanrec.training.negatives:Uniform", "every item alike"),
        "popularity": Entry("leanrec.training.negatives:Popularity", "by a power of the number of events"),
        "in-batch": Entry("leanrec.training.negatives:InBatch", "targets of the same batch"),
        "mixed": Entry("leanrec.training.negatives:Mixed", "some from the catalogue, some from the batch"),
    },
)


def make_negatives(name: str, options: Mapping[str, Any], counts_N: npt.NDArray[np.int64]) -> Negatives:
    """The sampler of that name; an option it does not have is a ConfigError naming the nearest."""
    kind = NEGATIVES[name]
    return kind(build(kind.Options, options, where=f"negatives {name}"), counts_N)
