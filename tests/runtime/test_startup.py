"""What a process that only serves loads: neither torch nor a frame library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from leanrec.core.ids import Vocabulary
from leanrec.index.certified import CertifiedInt8Index
from leanrec.runtime.engines.transformer import TransformerEngine, TransformerShape
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

from .test_engine_arrays import CONFIG, arrays
from .toys import item_table

HEAVY = ("torch", "polars", "pandas", "pyarrow", "scipy.sparse", "sklearn", "matplotlib")  # Numba asks for bare scipy
SERVE = f"""
import sys
from leanrec.core.nouns import Request
from leanrec.runtime.recommender import Recommender
model = Recommender.load(sys.argv[1])
assert len(model.answer([Request(history=["i1", "i2"], k=3)])[0].item_ids) == 3
assert len(model.similar("i1", 3).item_ids) == 3
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_answering_imports_nothing_heavy(tmp_path: Path) -> None:
    table = item_table(50, 4)
    engine = TransformerEngine(TransformerShape(**CONFIG), arrays(), table)
    source = EmbeddingSource("small", engine, CertifiedInt8Index.build(table))
    Recommender(source, Vocabulary([f"i{n}" for n in range(50)]), repeats=False).save(tmp_path / "b")
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path / "b")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
