"""Tables of row vectors and the optimisers that touch only the rows of a batch, chosen by name from `TABLES`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leanrec.core.config import build
from leanrec.core.jagged import Jagged
from leanrec.core.registry import Entry, Registry
from leanrec.nn.tables.base import ArrangedTable, Table, TableOptions

__all__ = ["TABLES", "Table", "TableOptions", "make_table"]

TABLES: Registry[Table] = Registry(
    "table",
    {
        "dense": Entry("leanrec.nn.tables.dense:DenseTable", "every row in memory, float32", "train"),
        "mapped": Entry("leanrec.nn.tables.mapped:MappedTable", "on disk, the hottest rows in memory", "train"),
        "device": Entry("leanrec.nn.tables.device:DeviceTable", "in one torch tensor, for GPUs", "train"),
        "bounded": Entry("leanrec.nn.tables.bounded:BoundedTable", "memory for the rows in use only", "train"),
        "bfloat16": Entry("leanrec.nn.tables.bfloat16:BFloat16Table", "bfloat16, rounded by chance", "train"),
        "split-bfloat16": Entry(
            "leanrec.nn.tables.bfloat16:SplitBFloat16Table", "bfloat16 to read, float32 to step", "train"
        ),
        "hashed": Entry("leanrec.nn.tables.hashed:HashedTable", "sums of rows picked by hashes", "train"),
        "quotient-remainder": Entry(
            "leanrec.nn.tables.quotient_remainder:QuotientRemainderTable", "products of two small tables", "train"
        ),
        "robe": Entry("leanrec.nn.tables.robe:RobeTable", "pieces of one shared array", "train"),
        "tensor-train": Entry(
            "leanrec.nn.tables.tensor_train:TensorTrainTable", "products of three small cores", "train"
        ),
        "product-quantised": Entry(
            "leanrec.nn.tables.product_quantised:ProductQuantisedTable", "codes of a few bytes an item", "train"
        ),
        "none": Entry("leanrec.nn.tables.none:NoTable", "zeros, where item vectors come from elsewhere", "train"),
    },
)


def make_table(
    name: str, num_rows: int, dim: int, *, seed: int = 0, options: Mapping[str, Any] | None = None,
    sequences: Jagged | None = None, folder: Path | None = None,
) -> Table:  # fmt: skip
    """The table of that name with fresh rows; an option it does not have is a ConfigError naming the nearest.

    sequences: the users' item rows, for a table whose layout is taken from the data. folder: where a table on disk
    keeps its files if its options do not say.
    """
    kind, options = TABLES[name], dict(options or {})
    if folder is not None and "folder" in kind.Options.__struct_fields__:
        options.setdefault("folder", str(folder))
    table = kind(num_rows, dim, build(kind.Options, options, where=f"table {name}"), seed=seed)
    if sequences is not None and isinstance(table, ArrangedTable):
        table.arrange(sequences)
    return table
