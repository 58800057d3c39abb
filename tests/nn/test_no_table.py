"""`none`: rows of zeros that cost nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leanrec.nn.tables import make_table


def test_rows_are_zeros_whatever_happens():
    table = make_table("none", 1_000_000, 8)
    rows = np.asarray([3, 999_999], np.int32)
    leaf = table.gather(rows)
    (leaf + 1).sum().backward()
    table.apply(rows, leaf.grad, 0.1)
    assert leaf.requires_grad and not leaf.detach().any()
    assert table.gather(None).shape == (1_000_000, 8) and table.weight().shape == (1_000_000, 8)
    assert table.nbytes < 1_000
    table.grow(1_000_002)
    table.erase(rows)
    again = make_table("none", 1_000_002, 8)
    again.load_state(table.state())
    assert again.erased.tolist() == rows.tolist()
    with pytest.raises(ValueError, match="cannot grow"):
        table.grow(1)
    assert not torch.count_nonzero(again.gather(rows))
