from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.errors import ConfigError, InputError
from leanrec.index.choose import EXACT, Candidate, choose, recall_of
from leanrec.index.exact import ExactIndex
from leanrec.index.ivf import IvfIndex
from leanrec.index.vectors import Float32Vectors

from .contract import table


def test_everything_is_found_by_exact_indexes() -> None:
    chosen = choose(Float32Vectors(table(500, 16)), table(20, 16, seed=1))
    assert [one.candidate.kind for one in chosen.table] == list(EXACT)
    assert chosen.best in chosen.table
    assert chosen.best.seconds == min(one.seconds for one in chosen.table)


def test_the_fastest_that_finds_enough() -> None:
    items_ND, queries_QD = table(3000, 16), table(40, 16, seed=1)
    some = [Candidate("ivf-int4", {"probes": 1}), Candidate("ivf-int4", {"probes": 3000}), Candidate("exact")]
    chosen = choose(Float32Vectors(items_ND), queries_QD, recall=0.999, candidates=some, batch=8)
    few, all_of_them, exact = chosen.table
    assert few.recall < 0.999 and all_of_them.recall == exact.recall == 1
    assert isinstance(few.index, IvfIndex) and isinstance(all_of_them.index, IvfIndex)
    assert (few.index.probes, all_of_them.index.probes) == (1, 3000)
    assert all_of_them.index.codes is few.index.codes  # the same lists
    assert few.bytes_scanned < all_of_them.bytes_scanned
    assert chosen.best is not few
    truth_QK = ExactIndex.build(items_ND).search(queries_QD, 10).items_BK
    assert few.recall == recall_of(few.index, queries_QD, truth_QK)


def test_what_cannot_be_chosen_from() -> None:
    vectors = Float32Vectors(table(2000, 16))
    with pytest.raises(InputError, match="no queries"):
        choose(vectors, np.empty((0, 16), np.float32))
    with pytest.raises(InputError, match=r"no index of 1 reaches a recall of 1"):
        choose(vectors, table(20, 16), candidates=[Candidate("ivf-int4", {"probes": 1})])
    with pytest.raises(ConfigError, match="probs"):
        choose(vectors, table(2, 16), candidates=[Candidate("ivf-int4", {"probs": 1})])
