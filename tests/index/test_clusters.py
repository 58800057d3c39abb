from __future__ import annotations

import numpy as np
import pytest

from leanrec.index.clusters import assign, centroids_of

from .contract import table


@pytest.mark.parametrize(("rows", "lists"), [(0, 3), (1, 1), (700, 5), (2000, 1300)])
def test_rows_belong_to_the_nearest_centroid(rows: int, lists: int) -> None:
    items_ND, centroids_LD = table(rows, 8), table(lists, 8, seed=1)
    found_N = assign(items_ND, centroids_LD)
    wide_NL = np.square(items_ND[:, None].astype(np.float64) - centroids_LD[None]).sum(axis=2)
    assert found_N.shape == (rows,)
    np.testing.assert_allclose(wide_NL[np.arange(rows), found_N], wide_NL.min(axis=1, initial=np.inf), rtol=1e-5)


def test_centroids_of_groups_are_their_means() -> None:
    middle_LD = 20 * table(6, 8, seed=1)
    group_N = np.random.default_rng(0).integers(0, 6, 600)
    items_ND = middle_LD[group_N] + table(600, 8)
    centroids_LD = centroids_of(items_ND, 24, 8, seed=0)
    nearest_N = assign(items_ND, centroids_LD)
    for centroid in np.unique(nearest_N):
        mine = items_ND[nearest_N == centroid]
        assert len(np.unique(group_N[nearest_N == centroid])) == 1
        assert np.linalg.norm(centroids_LD[centroid] - mine.mean(axis=0)) < 3


def test_no_rows_no_centroids() -> None:
    assert not centroids_of(np.empty((0, 4), np.float32), 3, 2, seed=0).any()
