"""Labelled rows as features: what models of labelled rows learn from. Many of them lie in mapped files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config
from leanrec.core.jagged import Jagged
from leanrec.data.examples.base import Examples, Part
from leanrec.data.scratch import Column, Scratch
from leanrec.features.batch import FeatureBatch
from leanrec.features.space import FeatureSpace

__all__ = ["Balance", "Labelled", "RowsConfig", "balanced", "encode", "stored"]

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
    shuffle: int = 1 << 20
    """Rows that are shuffled among each other, where they are learnt from one after the other: when there are more,
    blocks of 4,096 in a random order make up so many at a time, and only these are wanted in memory together."""


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

    def blocks(self, size: int = _BLOCK) -> Iterator[Labelled]:
        """All rows in their order, `size` at a time; views, not copies."""
        for start in range(0, len(self), size):
            weights = None if self.weights_B is None else self.weights_B[start : start + size]
            batch = self.batch.slice(start, start + size)
            yield Labelled(batch, self.labels_BT[start : start + size], weights)

    def main(self, tasks: int = 1) -> Labelled:
        """With only the first labels."""
        return Labelled(self.batch, self.labels_BT[:, :tasks], self.weights_B)


def encode(space: FeatureSpace, examples: Examples, part: Part, scratch: Scratch | None = None) -> Labelled:
    """A whole part, read as a stream. A row takes 4 bytes a field and 4 an entry of a list or history, in memory as far
    as `scratch` has room there (None: all of it), then in mapped files.
    """

    def blocks() -> Iterator[Labelled]:
        for frame in examples.batches(part, _BLOCK):
            yield Labelled(space.transform(frame), frame.select(examples.labels).to_numpy().astype(np.uint8))

    none = Labelled(space.transform(examples.sample(part, 0)), np.empty((0, len(examples.labels)), np.uint8))
    return stored(blocks(), examples.rows(part), none, scratch or Scratch(None))


def balanced(rows: Labelled, how: Balance, seed: int, scratch: Scratch | None = None) -> tuple[Labelled, float]:
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
    drawn.sort()
    blocks = (rows.take(drawn[start : start + _BLOCK]) for start in range(0, len(drawn), _BLOCK))
    return stored(blocks, len(drawn), rows.take(drawn[:0]), scratch or Scratch(None)), shift


def stored(blocks: Iterable[Labelled], count: int, none: Labelled, scratch: Scratch) -> Labelled:
    """The rows of all blocks, `count` together, one after the other. none: no rows, of the same fields and labels."""
    flat = [scratch.array(count * like.shape[1], like.dtype).reshape(count, like.shape[1]) for like in _arrays(none)]
    lists = [_Lists(count, scratch) for _ in _lists(none.batch)]
    at = 0
    for block in blocks:
        for kept, array in zip(flat, _arrays(block), strict=True):
            kept[at : at + len(block)] = array
        for column, one in zip(lists, _lists(block.batch), strict=True):
            column.append(at, one)
        at += len(block)
    assert at == count, "as many rows as were said"
    numbers_BF, categories_BF, labels_BT = flat
    ready = [column.finish() for column in lists]
    history = None if none.batch.history is None else ready.pop()
    return Labelled(FeatureBatch(none.batch.layout, numbers_BF, categories_BF, tuple(ready), history), labels_BT)


def _arrays(rows: Labelled) -> tuple[npt.NDArray[Any], ...]:
    return rows.batch.numbers_BF, rows.batch.categories_BF, rows.labels_BT


def _lists(batch: FeatureBatch) -> tuple[Jagged, ...]:
    return batch.lists if batch.history is None else (*batch.lists, batch.history)


class _Lists:
    """Rows of lists, appended block by block."""

    def __init__(self, count: int, scratch: Scratch) -> None:
        self._scratch, self._values, self._total = scratch, Column(scratch), 0
        self._offsets: npt.NDArray[np.int64] = scratch.array(count + 1, np.int64)
        self._offsets[0] = 0

    def append(self, at: int, block: Jagged) -> None:
        self._values.append(block.values)
        self._offsets[at + 1 : at + 1 + len(block)] = self._total + block.offsets[1:]
        self._total += len(block.values)

    def finish(self) -> Jagged:
        values = self._scratch.array(self._total, np.int32)
        at = 0
        for part in self._values.finish():
            values[at : at + len(part)] = part
            at += len(part)
        return Jagged(values, self._offsets)
