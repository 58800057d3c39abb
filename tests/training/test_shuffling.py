"""The order of rows: a permutation that the seed alone decides, read block by block, and the same from any place."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.training.shuffling import BLOCK, shuffled

SIZES = [0, 1, 5, BLOCK - 1, BLOCK, 3 * BLOCK + 17, 10 * BLOCK]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("pool", [1, BLOCK, 2 * BLOCK, 1 << 20])
def test_every_row_comes_once(count: int, pool: int) -> None:
    order = np.concatenate([np.empty(0, np.int64), *shuffled(count, pool, [7, 3])])
    assert np.array_equal(np.sort(order), np.arange(count))


def test_few_rows_are_shuffled_as_a_whole() -> None:
    (order,) = shuffled(10 * BLOCK, 10 * BLOCK, [7, 3])
    assert np.array_equal(order, np.random.default_rng([7, 3]).permutation(10 * BLOCK))


@pytest.mark.parametrize("pool", [BLOCK, 4 * BLOCK])
def test_no_more_than_a_pool_is_wanted_at_a_time(pool: int) -> None:
    parts = list(shuffled(10 * BLOCK + 9, pool, [7]))
    assert all(len(part) <= pool for part in parts)
    blocks = [set((part // BLOCK).tolist()) for part in parts]
    assert sum(map(len, blocks)) == len(set.union(*blocks)) == 11
    assert any(np.diff(part[: BLOCK // 2]).min() < -BLOCK for part in parts) == (pool > BLOCK)


@pytest.mark.parametrize("pool", [BLOCK, 4 * BLOCK, 1 << 20])
def test_a_part_of_the_order_is_what_the_whole_has_there(pool: int) -> None:
    count = 10 * BLOCK + 9
    whole = np.concatenate(list(shuffled(count, pool, [7, 3])))
    for first, last in [(0, count), (5, 6), (BLOCK, 7 * BLOCK + 2), (count - 1, count), (4, 4)]:
        part = np.concatenate([np.empty(0, np.int64), *shuffled(count, pool, [7, 3], first, last)])
        assert np.array_equal(part, whole[first:last])
    other = np.concatenate(list(shuffled(count, pool, [8, 3])))
    assert not np.array_equal(other, whole)
