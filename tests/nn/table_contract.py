"""What every table promises, tested by inheritance."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import InputError
from leanrec.nn.tables.base import Table

ROWS = np.asarray([7, 2, 9], np.int32)


def gradient(seed: int, rows: int, dim: int = 4) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def saved(table: Table) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in table.state().items()}


class TableContract(ABC):
    """A way of being a table inherits this, once for every way of setting it up that matters."""

    own_rows = True
    """Whether a step on some rows leaves the values of all others alone (not where rows share components)."""

    @abstractmethod
    def make(self, num_rows: int, dim: int, seed: int = 0) -> Table:
        """A fresh table."""

    def test_fresh_rows_depend_on_the_seed_and_have_the_right_spread(self) -> None:
        first, again, other = self.make(400, 16), self.make(400, 16), self.make(400, 16, seed=1)
        np.testing.assert_array_equal(first.weight(), again.weight())
        assert (first.weight() != other.weight()).any()
        assert abs(first.weight().mean()) < 0.05
        assert 0.15 < first.weight().std() < 0.35
        assert first.nbytes > 0

    def test_a_leaf_is_a_copy_of_its_rows(self) -> None:
        table = self.make(10, 4)
        leaf = table.gather(ROWS)
        np.testing.assert_array_equal(leaf.detach().cpu().numpy(), table.weight()[ROWS])
        assert leaf.requires_grad
        assert leaf.is_leaf
        assert leaf.dtype == torch.float32
        with torch.no_grad():
            leaf.zero_()
        assert (table.weight()[ROWS] != 0).any()

    def test_a_step_goes_down_the_gradient(self) -> None:
        table, rows = self.make(10, 4), np.arange(10, dtype=np.int32)
        goal = gradient(0, 10)
        losses = []
        for _ in range(120):
            leaf = table.gather(rows)
            loss = ((leaf - goal.to(leaf.device)) ** 2).sum()
            loss.backward()
            table.apply(rows, leaf.grad, 0.02)
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.8 * losses[0]

    def test_only_touched_rows_change(self) -> None:
        table = self.make(10, 4)
        before = table.weight().copy()
        table.apply(ROWS, torch.ones(3, 4), 0.1)
        changed = np.flatnonzero((table.weight() != before).any(axis=1)).tolist()
        assert set(ROWS.tolist()) <= set(changed)
        if self.own_rows:
            assert changed == sorted(ROWS.tolist())

    def test_the_whole_table_is_in_order(self) -> None:
        table = self.make(5, 4)
        np.testing.assert_array_equal(table.gather(None).detach().cpu().numpy(), table.weight())
        other = self.make(5, 4)
        table.apply(None, gradient(0, 5), 0.1)
        other.apply(np.arange(5, dtype=np.int32), gradient(0, 5), 0.1)
        np.testing.assert_array_equal(table.weight(), other.weight())

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.integers(0, 9), max_size=30))
    def test_distinct_rows_are_in_order_of_first_appearance(self, values: list[int]) -> None:
        table, wanted = self.make(10, 4), np.asarray(values, np.int32)
        rows, inverse = table.distinct(wanted)
        assert rows.tolist() == list(dict.fromkeys(values))
        np.testing.assert_array_equal(rows[inverse], wanted)

    def test_state_resumes_exactly(self) -> None:
        first, second = self.make(10, 4), self.make(10, 4)
        first.apply(ROWS, gradient(0, 3), 0.1)
        first.erase(np.asarray([1], np.int32))
        state = saved(first)
        first.apply(ROWS, gradient(1, 3), 0.1)
        after = first.weight().copy()
        first.close()
        second.load_state(state)
        second.apply(ROWS, gradient(1, 3), 0.1)
        np.testing.assert_array_equal(second.weight(), after)
        np.testing.assert_array_equal(second.erased, [1])

    def test_it_goes_back_to_any_state_that_is_kept(self) -> None:
        table = self.make(10, 4)
        states, weights = [], []
        for step in range(4):
            states.append(saved(table))
            weights.append(table.weight().copy())
            table.apply(ROWS, gradient(step, 3), 0.1)
        table.keep([states[1], states[3]])
        for at in (3, 1):
            table.load_state(states[at])
            np.testing.assert_array_equal(table.weight(), weights[at])

    def test_a_state_of_another_size_is_refused(self) -> None:
        with pytest.raises(InputError, match="10 rows and 4 dimensions"):
            self.make(11, 4).load_state(saved(self.make(10, 4)))

    def test_a_grown_table_is_as_if_made_so_and_keeps_what_it_learned(self) -> None:
        grown, made = self.make(6, 4), self.make(10, 4)
        grown.grow(10)
        np.testing.assert_array_equal(grown.weight(), made.weight())
        assert grown.num_rows == 10
        late = self.make(6, 4)
        rows = np.asarray([5, 0], np.int32)
        for table in (late, grown):
            table.apply(rows, gradient(0, 2), 0.1)
        late.grow(10)
        np.testing.assert_array_equal(late.weight(), grown.weight())
        for table in (late, grown):
            table.apply(ROWS, gradient(1, 3), 0.1)
        np.testing.assert_array_equal(late.weight(), grown.weight())
        with pytest.raises(InputError, match="cannot grow"):
            late.grow(3)

    def test_an_erased_row_is_zero_and_stays_so(self) -> None:
        table = self.make(10, 4)
        table.apply(ROWS, gradient(0, 3), 0.1)
        table.erase(np.asarray([2, 5], np.int32))
        table.apply(ROWS, gradient(1, 3), 0.1)
        table.apply(None, gradient(2, 10), 0.1)
        table.grow(12)
        assert (table.weight()[[2, 5]] == 0).all()
        assert (table.weight()[[7, 9, 11]] != 0).any(axis=1).all()
        leaf = table.gather(ROWS).detach().cpu().numpy()
        np.testing.assert_array_equal(leaf, table.weight()[ROWS])
        assert table.erased.tolist() == [2, 5]

    def test_prefetching_changes_nothing(self) -> None:
        hinted, plain = self.make(10, 4), self.make(10, 4)
        for step in range(3):
            hinted.prefetch(np.asarray([7, 7, 1, 2], np.int32))
            for table in (hinted, plain):
                table.gather(ROWS)
                table.apply(ROWS, gradient(step, 3), 0.1)
        np.testing.assert_array_equal(hinted.weight(), plain.weight())
