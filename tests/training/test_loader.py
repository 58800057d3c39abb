"""The loader: every event is learned from once an epoch, batches depend on seed, epoch and step alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leanrec.core.jagged import Jagged
from leanrec.training.augment import ContrastiveOptions
from leanrec.training.loader import SequenceLoader


def _loader(**changes: Any) -> SequenceLoader:
    random = np.random.default_rng(0)
    rows = [random.integers(0, 50, n) for n in (1, 0, 2, 7, 30, 95, 5, 11)]
    settings: dict[str, Any] = {
        "max_length": 10,
        "batch_tokens": 40,
        "num_items": 50,
        "negatives": 8,
        "seed": 3,
        **changes,
    }
    return SequenceLoader(Jagged.from_rows(rows), **settings)


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


@pytest.mark.parametrize(
    "changes",
    [
        {"negatives_from": "popularity", "class_weight": 0.5}, {"negatives_from": "in-batch", "masked": 0.3},
        {"negatives_from": "mixed", "views": ContrastiveOptions()},
    ],
)  # fmt: skip
def test_whatever_is_drawn_a_resumed_epoch_draws_again(changes: dict[str, Any]) -> None:
    whole, rest = list(_loader(**changes).epoch(1)), list(_loader(**changes).epoch(1, start=1))
    for a, b in zip(whole[1:], rest, strict=True):
        for name in ("items_RL", "targets_T", "negatives_n", "log_expected_n", "weight_T"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        if a.views is not None and b.views is not None:
            np.testing.assert_array_equal(a.views.items_RL, b.views.items_RL)


def test_hidden_events_are_predicted_where_they_stood() -> None:
    sequences = Jagged.from_rows([100 * user + np.arange(n) for user, n in enumerate((3, 25, 12, 1, 2))])
    loader = SequenceLoader(sequences, max_length=10, batch_tokens=30, num_items=500, masked=0.3, seed=1)
    seen, only_last = set(), 0
    for epoch in range(20):
        for batch in loader.epoch(epoch):
            assert not batch.uniform
            hidden, segments = batch.items_RL.reshape(-1) < 0, batch.segment_RL.reshape(-1)
            np.testing.assert_array_equal(np.flatnonzero(hidden), np.sort(batch.slots_T))
            restored = batch.items_RL.reshape(-1).copy()
            restored[batch.slots_T] = batch.targets_T
            for window in range(segments.max() + 1):
                places = np.flatnonzero(segments == window)
                assert (np.diff(restored[places]) == 1).all()
                assert hidden[places].any()
                only_last += int(hidden[places].sum() == hidden[places[-1]] == 1)
            seen |= set(batch.targets_T.tolist())
    assert seen == set(sequences.values.tolist()) - {300}
    assert only_last > 20


def test_class_weights_are_one_on_average_and_less_for_the_popular() -> None:
    sequences = Jagged.from_rows([np.asarray([0, 1] * 20), np.asarray([2, 3, 4, 0])])
    loader = SequenceLoader(sequences, max_length=10, batch_tokens=500, num_items=5, class_weight=0.5)
    batch = next(loader.epoch(0))
    assert batch.weight_T is not None
    of = dict(zip(batch.targets_T.tolist(), batch.weight_T.tolist(), strict=True))
    counts = np.bincount(sequences.values)
    assert of[0] / of[3] == pytest.approx((counts[3] / counts[0]) ** 0.5)
    assert loader._weight_N is not None
    assert loader._weight_N @ counts / counts.sum() == pytest.approx(1)


def test_views_are_made_of_the_windows() -> None:
    loader = _loader(views=ContrastiveOptions(reorder=0.0))
    for batch in loader.epoch(0):
        views = batch.views
        assert views is not None and len(views.targets_T) == 0
        windows = batch.segment_RL.max() + 1
        assert len(views.slots_T) == 2 * windows
        for window in range(windows):
            inputs = batch.items_RL[batch.segment_RL == window]
            for nth in (window, window + windows):
                places = np.flatnonzero(views.segment_RL.reshape(-1) == nth)
                assert views.slots_T[nth] == places[-1]
                assert set(views.items_RL.reshape(-1)[places].tolist()) <= {-1, *inputs.tolist()}


def test_parts_of_a_batch_keep_their_weights() -> None:
    batch = next(_loader(class_weight=1.0).epoch(0))
    assert batch.weight_T is not None
    parts = [batch.rows(0, 2), batch.rows(2, len(batch.items_RL))]
    weights = [part.weight_T for part in parts if part.weight_T is not None]
    assert sorted(np.concatenate(weights).tolist()) == sorted(batch.weight_T.tolist())
