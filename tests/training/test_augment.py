"""Altered views: what each alteration may change, and the loss over pairs of views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError
from leanrec.training.augment import ContrastiveOptions, contrast, view


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 15), min_size=1, max_size=30), seed=st.integers(0, 500))
def test_a_view_is_a_crop_a_mask_or_a_shuffle(sizes: list[int], seed: int) -> None:
    size_W = np.asarray(sizes, np.int64)
    items_T = np.arange(size_W.sum(), dtype=np.int32)
    options = ContrastiveOptions(crop=0.6, mask=0.4, reorder=0.5)
    got, got_W = view(items_T, size_W, options, np.random.default_rng(seed))
    assert got.dtype == np.int32 and len(got) == got_W.sum() and (got_W >= 1).all()
    for old, new in zip(np.split(items_T, np.cumsum(size_W)[:-1]), np.split(got, np.cumsum(got_W)[:-1]), strict=True):
        hidden = new < 0
        if len(new) < len(old):
            assert len(new) == max(1, int(0.6 * len(old)))
            assert (np.diff(new) == 1).all() and not hidden.any() and set(new.tolist()) <= set(old.tolist())
        elif hidden.any():
            np.testing.assert_array_equal(new[~hidden], old[~hidden])
        else:
            assert sorted(new.tolist()) == old.tolist()
            moved = np.flatnonzero(new != old)
            assert len(moved) == 0 or moved[-1] - moved[0] < int(0.5 * len(old))


def test_every_alteration_occurs_and_shuffles_move() -> None:
    items, size = np.arange(3000, dtype=np.int32), np.full(300, 10, np.int64)
    got, got_W = view(items, size, ContrastiveOptions(), np.random.default_rng(0))
    whole = [row for row in np.split(got, np.cumsum(got_W)[:-1]) if len(row) == 10]
    assert 0.2 < np.mean(got_W < 10) < 0.5
    assert 0.2 < np.mean([(row < 0).any() for row in whole]) < 0.7
    assert np.mean([(np.diff(row) < 0).any() and (row >= 0).all() for row in whole]) > 0.2


def test_contrast_is_cross_entropy_over_the_other_views() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(6, 4)
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    wanted = []
    for v in range(6):
        scores = {u: float(unit[v] @ unit[u]) / 0.3 for u in range(6) if u != v}
        wanted.append(np.log(sum(np.exp(s) for s in scores.values())) - scores[(v + 3) % 6])
    assert float(contrast(vectors, 0.3)) == pytest.approx(np.mean(wanted), rel=1e-5)


@pytest.mark.parametrize("options", [{"crop": 1.5}, {"mask": -0.1}, {"temperature": 0.0}])
def test_impossible_options_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        ContrastiveOptions(**options)
