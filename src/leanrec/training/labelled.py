"""Labelled rows as features, in memory: what models of labelled rows learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.jagged import Jagged
from leanrec.data.examples.base import Examples, Part
from leanrec.features.batch import FeatureBatch
from leanrec.features.space import FeatureSpace

__all__ = ["Balance", "Labelled", "RowsConfig", "balanced", "encode", "joined"]

Balance = Literal["none", "weights", "undersample", "oversample"]
_BLOCK = 1 << 16


class RowsConfig(Config, frozen=True, kw_only=True):
    """Which rows a model of labelled rows learns from, and what its scores are turned into."""

    label: str | None = None
    """What counts as yes: a condition on the value, as 'value>=4', or 'implicit'. None: at least the median value of
    the training events where values differ, else implicit (defaults version 1)."""
    negatives: int = 4
    """Items drawn for each event of an implicit label, each a no."""
    history: int = 50
    """Items of the history before a row that count, for models that look at them."""
    features: Mapping[str, Any] = {}
    """How columns become features, see features.space.FeatureConfig; what it does not say is guessed."""
    balance: Balance = "none"
    """What is done about a rare label; probabilities are put right again afterwards."""
    calibration: Literal["auto", "none", "temperature", "platt", "isotonic"] = "auto"
    """From raw scores to probabilities, learnt on validation rows."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """B rows. labels: (B, tasks) uint8. weights: (B,) how much each row counts, or None for all alike."""

    batch: FeatureBatch
    labels_BT: npt.NDArray[np.uint8]
    weights_B: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.batch)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Labelled:
        """Some of the rows."""
        weights = None if self.weights_B is None else self.weights_B[rows]
        return Labelled(self.batch.take(rows), self.labels_BT[rows], weights)

    def main(self, tasks: int = 1) -> Labelled:
        """With only the first labels."""
        return Labelled(self.batch, self.labels_BT[:, :tasks], self.weights_B)


def encode(space: FeatureSpace, examples: Examples, part: Part) -> Labelled:
    """A whole part, read as a stream; in memory a row takes 4 bytes a field and 4 an entry of a list or history."""
    batches, labels = [space.transform(examples.sample(part, 0))], []
    for frame in examples.batches(part, _BLOCK):
        batches.append(space.transform(frame))
        labels.append(frame.select(examples.labels).to_numpy().astype(np.uint8))
    empty = np.empty((0, len(examples.labels)), np.uint8)
    return Labelled(joined(batches), np.concatenate([empty, *labels]))


def balanced(rows: Labelled, how: Balance, seed: int) -> tuple[Labelled, float]:
    """Rows in which both main labels weigh the same, and the shift that undoes this in the logit.

    weights: a row of the rarer label counts more. undersample: of the commoner label as many rows as of the rarer one
    are drawn. oversample: rows of the rarer label stand several times. If a share r of negatives is kept, or positives
    count 1 / r times, log odds rise by -log r (He et al. 2014).
    """
    is_yes = rows.labels_BT[:, 0] > 0
    yes, no = int(is_yes.sum()), int((~is_yes).sum())
    if how == "none" or not yes or not no:
        return rows, 0.0
    shift = float(np.log(yes / no))
    rare = is_yes if yes <= no else ~is_yes
    most, least = max(yes, no), min(yes, no)
    if how == "weights":
        return Labelled(rows.batch, rows.labels_BT, np.where(rare, most / least, 1).astype(np.float32)), shift
    rng = np.random.default_rng([seed, 0xBA1])
    if how == "undersample":
        drawn = np.concatenate([np.flatnonzero(rare), rng.permutation(np.flatnonzero(~rare))[:least]])
    else:
        repeated = np.tile(rng.permutation(np.flatnonzero(rare)), -(-most // least))[:most]
        drawn = np.concatenate([np.flatnonzero(~rare), repeated])
    return rows.take(np.sort(drawn)), shift


def joined(batches: Sequence[FeatureBatch]) -> FeatureBatch:
    first = batches[0]
    return FeatureBatch(
        first.layout,
        np.concatenate([one.numbers_BF for one in batches]),
        np.concatenate([one.categories_BF for one in batches]),
        tuple(_stacked([one.lists[field] for one in batches]) for field in range(len(first.lists))),
        None if first.history is None else _stacked([one.history for one in batches if one.history is not None]),
    )


def _stacked(parts: Sequence[Jagged]) -> Jagged:
    values, lengths = (np.concatenate(arrays) for arrays in zip(*((p.values, p.lengths) for p in parts), strict=True))
    return Jagged.from_lengths(values, lengths)
