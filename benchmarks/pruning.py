"""How much of a table certified scans leave unread, for docs/log.md: `python -m benchmarks.pruning [TABLE...]`.

Per query, as shares of the rows: those that are long enough to be among the best (`certified-int8` ends there), those
that met more than the first code (`certified-int4`: the second plane, `certified-int8`: the other seven bits of the
query), and those scored in full. Tables: Gaussian values, `als` with 64 and 128 factors on Gowalla and Beauty,
`esasrec` and `als` of the 1M synthetic run; asked with histories of test users, one at a time and 256 together, for the
best 10 and the best 100.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from benchmarks.c4 import CASES
from benchmarks.harness import bench_data
from benchmarks.retrieval import Table, encoded, gaussian, synthetic
from leanrec.core.console import format_table
from leanrec.data.prepare import prepare
from leanrec.index import INDEXES
from leanrec.index.bounded import BoundedIndex
from leanrec.models import MODELS

QUERIES, ALONE = 256, 16
NAMES = ("certified-int8", "certified-int4")


def factors(name: str, dim: int) -> Table:
    """`als` on one of C4's data sets."""
    case = CASES[name]
    data = prepare(bench_data(case.folder) / "interactions.parquet", **case.prepare)
    settings = {**CASES["gowalla"].settings, "factors": dim}
    model = MODELS["als"](**settings).fit(data, seed=0, metric=case.metric)
    return encoded(f"als {name}", model, data.cases("test").histories, QUERIES)


TABLES: dict[str, Callable[[], Table]] = {
    **{f"{name}-{dim}": partial(factors, name, dim) for name in ("beauty", "gowalla") for dim in (64, 128)},
    **{f"gaussian-{dim}": partial(gaussian, 1_000_000, dim, QUERIES) for dim in (64, 128)},
    **{name: partial(synthetic, name, QUERIES) for name in ("1m-64", "1m-als-128")},
}


def lines(table: Table) -> Iterator[tuple[str, ...]]:
    """One for each index and number of answers."""
    size, norms_N = len(table.items_ND), np.sort(np.linalg.norm(table.items_ND, axis=1))
    asked_Q = np.linalg.norm(table.queries_QD, axis=1)
    for name in NAMES:
        index = INDEXES[name].build(table.items_ND)
        assert isinstance(index, BoundedIndex)
        for k in (10, 100):
            proofs = [
                index.search_with_proof(table.queries_QD, k)[1],
                *(index.search_with_proof(table.queries_QD[q : q + 1], k)[1] for q in range(ALONE)),
            ]
            cells = [
                f"{np.mean(rows_B):,.0f} ({np.mean(rows_B) / size:.3%})"
                for part in (proofs[:1], proofs[1:])
                for rows_B in (
                    np.concatenate([p.refined_B for p in part]),
                    np.concatenate([p.rescored_B for p in part]),
                )
            ]
            shortest_Q = proofs[0].thresholds_B / np.maximum(asked_Q, 1e-30)
            long_enough = 1 - np.searchsorted(norms_N, shortest_Q).mean() / size
            yield (table.name, name, str(k), f"{long_enough:.2%}", *cells)


def main(names: list[str]) -> None:
    """Print the table."""
    rows = [line for name in names for line in lines(TABLES[name]())]
    headers = (
        "table", "index", "k", "long enough", "read again, 256 together", "rescored", "read again, alone",
        "rescored alone",
    )  # fmt: skip
    print(format_table(headers, rows))


if __name__ == "__main__":
    main(sys.argv[1:] or list(TABLES))
