"""Tables of row vectors and the optimisers that touch only the rows of a batch, chosen by name from `TABLES`."""

from collections.abc import Mapping
from typing import Any

from leanrec.core.config import build
from leanrec.core.registry import Entry, Registry
from leanrec.nn.tables.base import Table, TableOptions

__all__ = ["TABLES", "Table", "TableOptions", "make_table"]

TABLES: Registry[Table] = Registry(
    "table",
    {"dense": Entry("leanrec.nn.tables.dense:DenseTable", "every row in memory, float32", "train")},
)


def make_table(name: str, num_rows: int, dim: int, *, seed: int = 0, options: Mapping[str, Any] | None = None) -> Table:
    """The table of that name with fresh rows; an option it does not have is a ConfigError naming the nearest."""
    kind = TABLES[name]
    return kind(num_rows, dim, build(kind.Options, options or {}, where=f"table {name}"), seed=seed)
