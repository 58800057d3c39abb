"""The loader: every event is learned from once an epoch, batches depend on seed, epoch and step alone."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.jagged import Jagged
from leanrec.training.loader import SequenceLoader


def _loader(**changes: int) -> SequenceLoader:
    random = np.random.default_rng(0)
    rows = [random.integers(0, 50, n) for n in (1, 0, 2, 7, 30, 95, 5, 11)]
    settings = {"max_length": 10, "batch_tokens": 40, "num_items": 50, "negatives": 8, "seed": 3, **changes}
    return SequenceLoader(Jagged.from_rows(rows), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_every_prediction_stands_in_exactly_one_window(epoch: int) -> None:
    loader = _loader()
    first, _, size = loader.windows(epoch)
    assert size.max() <= 10
    seen = np.concatenate([np.arange(f, f + n) for f, n in zip(first, size, strict=True)])
    assert len(seen) == len(set(seen.tolist())) == loader.tokens == 1 + 6 + 29 + 94 + 4 + 10


def test_inputs_and_targets_are_neighbours_in_the_history() -> None:
    loader = _loader()
    pairs = {(int(a), int(b)) for a, b in zip(loader._values[:-1], loader._values[1:], strict=True)}
    for batch in loader.epoch(0):
        inputs = batch.items_RL.reshape(-1)[batch.slots_T]
        assert set(zip(inputs.tolist(), batch.targets_T.tolist(), strict=True)) <= pairs
        assert (batch.segment_RL.reshape(-1)[batch.slots_T] >= 0).all()
        assert (batch.segment_RL >= 0).sum() == len(batch.slots_T)


def test_a_resumed_epoch_goes_on_with_the_same_batches() -> None:
    whole = list(_loader().epoch(2))
    rest = list(_loader().epoch(2, start=2))
    assert len(whole) == len(rest) + 2
    for a, b in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(a.items_RL, b.items_RL)
        np.testing.assert_array_equal(a.negatives_n, b.negatives_n)
        assert a.step == b.step


def test_epochs_differ() -> None:
    first = next(iter(_loader().epoch(0)))
    second = next(iter(_loader().epoch(1)))
    assert not np.array_equal(first.targets_T[:10], second.targets_T[:10])


def test_an_epoch_may_be_left_early() -> None:
    for batch in _loader().epoch(0):
        assert batch.step == 0
        break


def test_full_rows_are_called_uniform() -> None:
    random = np.random.default_rng(0)
    rows = [random.integers(0, 50, 11) for _ in range(8)]
    batch = next(SequenceLoader(Jagged.from_rows(rows), max_length=10, batch_tokens=80, num_items=50).epoch(0))
    assert batch.uniform
    np.testing.assert_array_equal(batch.slots_T, np.arange(80))


def test_a_horizon_draws_from_the_events_to_come() -> None:
    sequences = Jagged.from_rows([100 * user + np.arange(n) for user, n in enumerate((3, 25, 12))])
    loader = SequenceLoader(sequences, max_length=10, batch_tokens=30, num_items=300, horizon=4, seed=1)
    ahead = []
    for epoch in range(20):
        for batch in loader.epoch(epoch):
            inputs = batch.items_RL.reshape(-1)[batch.slots_T]
            assert (inputs // 100 == batch.targets_T // 100).all()
            ahead += (batch.targets_T - inputs).tolist()
    counts = np.bincount(ahead, minlength=6)
    assert counts[0] == 0
    assert counts[5:].sum() == 0
    assert (counts[1:5] > 0.15 * counts.sum()).all()
