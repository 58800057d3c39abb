"""Losses of each sequence model's first steps, as they were when written down: a refactor changes none of them.

Where a change means to, print the new ones with  python -m tests.models.test_golden_losses  and say why in the commit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from leanrec.models import MODELS
from leanrec.models.sequential import SequenceModel
from leanrec.training.loader import Batch
from leanrec.training.task import NextItem

from .worlds import shop

_SETTINGS: dict[str, Any] = {
    "dim": 16, "epochs": 3, "patience": 3, "negatives": 16, "batch_tokens": 64, "dropout": 0.1, "precision": "float32",
    "ema": 0.0, "warmup": 4, "device": "cpu",
}  # fmt: skip

GOLDEN: dict[str, list[float]] = {
    "sasrec": [4.193955, 4.09156, 3.472639, 3.472091, 4.040855],
    "esasrec": [4.120152, 4.293999, 3.670545, 3.812824, 4.217591],
    "gsasrec": [0.827417, 0.760331, 0.817733, 0.693451, 0.672617],
    "bert4rec": [4.311947, 4.159776, 4.125543, 3.691582, 3.276525],
    "gru4rec": [4.088767, 3.588103, 3.265075, 3.481751, 3.698176],
    "caser": [4.158777, 3.975966, 3.183908, 3.529707, 3.998677],
    "hstu": [4.243731, 4.238111, 3.755785, 3.997175, 3.982791],
}


@contextmanager
def _recorded() -> Iterator[list[float]]:
    """Losses of every step taken inside."""
    losses: list[float] = []
    step = NextItem.step

    def record(self: NextItem, batch: Batch) -> float:
        losses.append(step(self, batch))
        return losses[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NextItem, "step", record)
        yield losses


def losses_of(name: str) -> list[float]:
    """Of every fifth step."""
    with _recorded() as losses:
        MODELS[name](**_SETTINGS).fit(shop(), seed=1)
    return losses[::5]


@pytest.mark.parametrize("name", GOLDEN)
def test_losses_are_those_that_were_written_down(name: str) -> None:
    np.testing.assert_allclose(losses_of(name), GOLDEN[name], rtol=1e-4)


def test_every_sequence_model_has_them() -> None:
    assert {name for name in MODELS.entries if _is_plain_sequence(name)} == set(GOLDEN)


def _is_plain_sequence(name: str) -> bool:
    """A sequence model that needs nothing but the data (no language model)."""
    return MODELS.entries[name].extra == "train" and issubclass(MODELS[name], SequenceModel)


if __name__ == "__main__":
    for name in MODELS.entries:
        if _is_plain_sequence(name):
            sys.stdout.write(f'    "{name}": {[round(loss, 6) for loss in losses_of(name)]},\n')
