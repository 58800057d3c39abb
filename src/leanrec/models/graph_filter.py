"""A filter on the graph of items: what shares users, with the broadest directions held down, in closed form.

The normalised graph M = D^-1/2 X' W X D^-1/2 (W: n^-user_power for a user of n items) smooths a history, as in GF-CF
(Shen et al. 2021, arXiv:2108.07567). Its leading directions say what everybody has; the sharpening of BSPM (Choi et al.
2023, arXiv:2211.09324) takes weight from them. Here that is one number: eigenvalues above `ceiling` times the largest
count as that, the others as they are, which needs only the eigenvectors above it. Weights are
D^-popularity filter(M) D^popularity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numba
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.console import say
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.evaluation.metrics import per_user
from leanrec.kernels.blas import blas_threads
from leanrec.kernels.graph import two_hops
from leanrec.kernels.spectrum import Graph, leading
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.judges import Judges
from leanrec.models.neighbourhood import Incidence, Neighbourhood, Part, largest, spread_items
from leanrec.models.popular import popular_fallback
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.neighbours import NeighbourSource

__all__ = ["GraphFilter", "GraphFilterConfig", "Spectrum", "filter_weights"]

DEFAULTS_VERSION = 1
_CEILINGS = (0.4, 0.3, 0.55, 1.0)
_POPULARITIES = (0.4, 0.3, 0.15, 0.0, 0.5)
_ROWS = 128


class GraphFilterConfig(Config, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (defaults version 1), and printed."""

    ceiling: float | None = None
    """Eigenvalues above this share of the largest count as that much."""
    popularity: float | None = None
    """Exponent of an item's users with which it is recommended; the history's items count with its inverse."""
    user_power: float = 0.75
    """A user of n items adds n^-user_power to what two items share."""
    rank: int = 256
    """Leading directions that are held down."""
    neighbours: int = 1000
    """Weights kept for each item, the largest by size; those of up to so many items are kept whole."""
    window: int = 2000
    """Events of a user that count, the newest."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "ceiling": Range(0.1, 1.0),
        "popularity": Range(0.0, 0.5),
        "user_power": Range(0.5, 1.5),
        "rank": Choice((64, 128, 256, 512)),
    }

    def __post_init__(self) -> None:
        for key, least in (("rank", 1), ("neighbours", 1), ("window", 1)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} must be at least {least}, not {getattr(self, key)}")
        if self.ceiling is not None and not 0 < self.ceiling <= 1:
            raise ValueError(f"ceiling must be above 0 and at most 1, not {self.ceiling}")
        if self.popularity is not None and not 0 <= self.popularity <= 1:
            raise ValueError(f"popularity must be from 0 to 1, not {self.popularity}")
        if not 0 <= self.user_power <= 2:
            raise ValueError(f"user_power must be from 0 to 2, not {self.user_power}")


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Who had what, and the leading directions (N, D) and eigenvalues (D,) of its graph of items."""

    had: Incidence
    weights_U: npt.NDArray[np.float32]
    directions_ND: npt.NDArray[np.float32]
    eigenvalues_D: npt.NDArray[np.float32]

    @classmethod
    def of(cls, events: Jagged, num_items: int, config: GraphFilterConfig, seed: int) -> Spectrum:
        had = Incidence.of(events.last(config.window), num_items)
        graph = Graph(had.by_user, num_items, numba.get_num_threads(), config.user_power)
        vectors_MD, singular_D = leading(graph, config.rank, seed)
        users = graph.num_users
        return cls(had, graph.scale_M[:users] ** 2, np.ascontiguousarray(vectors_MD[users:]), singular_D**2)

    def filtered(self, rows: Jagged, ceiling: float, popularity: float) -> npt.NDArray[np.float32]:
        """(B, N) what each row of items says for all items."""
        by_item, by_user = self.had.by_item, self.had.by_user
        sizes_N = np.maximum(by_item.lengths, 1).astype(np.float32)
        inner_N, outer_N = sizes_N ** -(0.5 + popularity), sizes_N ** (popularity - 0.5)
        out_BN = np.zeros((len(rows), len(sizes_N)), np.float32)
        two_hops(
            rows.offsets, rows.values, inner_N, by_item.offsets, by_item.values,
            self.weights_U, by_user.offsets, by_user.values, out_BN,
        )  # fmt: skip
        out_BN *= outer_N
        ceiling *= float(self.eigenvalues_D[0])
        above = int((self.eigenvalues_D > ceiling).sum())
        if above:
            some_ND = self.directions_ND[:, :above]
            scaled_TD = some_ND[rows.values] * (sizes_N**-popularity)[rows.values, None]
            sums_BD = np.zeros((len(rows), above), np.float32)
            np.add.at(sums_BD, rows.row_of(), scaled_TD)
            out_BN += ((sums_BD * (ceiling - self.eigenvalues_D[:above])) @ some_ND.T) * sizes_N**popularity
        return out_BN


class GraphFilter(Model[GraphFilterConfig]):
    """Items that share users, with the broadest directions held down."""

    name: ClassVar[str] = "graph-filter"
    Config = GraphFilterConfig

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        config, size = self.config, len(data.items)
        spectrum = None
        ceiling, popularity = config.ceiling, config.popularity
        if ceiling is None or popularity is None:
            spectrum = Spectrum.of(data.train(), size, config, options.seed)
            ceiling, popularity = self._choose(spectrum, data, options)
        if spectrum is None or options.refit:
            spectrum = Spectrum.of(data.train(options.refit), size, config, options.seed)
        fitted = filter_weights(spectrum, ceiling, popularity, config.neighbours)
        source = NeighbourSource(
            self.name, fitted.lists, fitted.similarities, fitted.selves_N, window=config.window, half_life=None
        )
        chosen = {"ceiling": ceiling, "popularity": popularity}
        return assemble(
            self, source, data, options, fallback=popular_fallback(data, refit=options.refit), chosen=chosen
        )

    def _choose(self, spectrum: Spectrum, data: Dataset, options: FitOptions) -> tuple[float, float]:
        """The best of a few, by whole rows of scores: `popularity` first."""
        judges, config = Judges(data, options.metric), self.config
        scored: dict[tuple[float, float], float] = {}

        def score(ceiling: float, popularity: float) -> float:
            key = (ceiling, popularity)
            if key not in scored:
                scored[key] = _score(spectrum, judges, *key)
            return scored[key]

        ceilings = _CEILINGS if config.ceiling is None else (config.ceiling,)
        popularities = _POPULARITIES if config.popularity is None else (config.popularity,)
        if not len(judges):
            return ceilings[0], popularities[0]
        popularity = max(popularities, key=partial(score, ceilings[0]))
        ceiling = max(ceilings, key=lambda one: score(one, popularity))
        say(f"{self.name} (defaults {DEFAULTS_VERSION}): ceiling={ceiling:g} popularity={popularity:g}")
        return ceiling, popularity


def _score(spectrum: Spectrum, judges: Judges, ceiling: float, popularity: float) -> float:
    """The mean of the judges' metric, by scores of all items."""
    best = []
    for low in range(0, len(judges), _ROWS):
        rows = judges.histories.take(np.arange(low, min(low + _ROWS, len(judges))))
        scores_BN = spectrum.filtered(rows, ceiling, popularity)
        if judges.excluded:
            scores_BN[rows.row_of(), rows.values] = -np.inf
        best.append(largest(scores_BN, judges.metric.k, signed=True)[0])
    return float(per_user(np.concatenate(best), judges.targets, [judges.metric])[str(judges.metric)].mean())


def filter_weights(spectrum: Spectrum, ceiling: float, popularity: float, keep: int) -> Neighbourhood:
    """The `keep` largest weights of each item, by falling size; items that nobody had have none."""
    size = len(spectrum.had.by_item)
    selves_N = np.zeros(size, np.float32)

    def part(items: npt.NDArray[np.int64]) -> Part:
        rows = Jagged.from_lengths(items.astype(np.int32), np.ones(len(items), np.int64))
        weights_nN = spectrum.filtered(rows, ceiling, popularity)
        at = np.arange(len(items))
        selves_N[items] = np.maximum(weights_nN[at, items], 0)
        weights_nN[at, items] = 0
        places_nK, weights_nK = largest(weights_nN, keep)
        found_nK = weights_nK != 0
        return found_nK.sum(axis=1), places_nK[found_nK].astype(np.int32), weights_nK[found_nK]

    with blas_threads(1):
        counts_N, others_T, weights_T = spread_items("weights", np.arange(size), part, most=_ROWS)
    return Neighbourhood(Jagged.from_lengths(others_T, counts_N), weights_T, selves_N, keep)
