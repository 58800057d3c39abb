"""Memory by part, and that what is mapped is there once for all processes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from leanrec.cli.main import run
from leanrec.core.errors import BundleError, MachineError
from leanrec.jobs.footprint import PARTS, footprint
from leanrec.runtime.recommender import Recommender
from tests.runtime.toys import item_table, recommender

SIZE, DIM = 20_000, 128
TABLE = 4 * SIZE * DIM
SERVE = """
import sys
import numpy as np
from leanrec.core.jagged import Jagged
from leanrec.runtime.recommender import Recommender
import tests.runtime.toys
model = Recommender.load(sys.argv[1])
model.source.index.items_ND.sum()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A factor model of 10 MB: no more is needed to tell its pages from everything else."""
    from leanrec.core.ids import Vocabulary
    from leanrec.index import INDEXES
    from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine
    from leanrec.runtime.sources.embedding import EmbeddingSource

    table = item_table(SIZE, DIM)
    engine = FactorsEngine(FactorsConfig(fold="mean"), {}, table)
    source = EmbeddingSource("wide", engine, INDEXES["certified-int8"].build(table))
    folder = tmp_path_factory.mktemp("wide") / "b"
    Recommender(source, Vocabulary([f"item {n}" for n in range(SIZE)]), repeats=True).save(folder)
    return folder


def test_every_byte_of_the_bundle_is_some_part(bundle: Path) -> None:
    found = {part.name: part for part in footprint(bundle).parts}
    assert tuple(found) == PARTS
    assert found["weights"].bundle_bytes == TABLE + 4 * SIZE + 4 * -(-SIZE // 512)
    assert found["codes"].bundle_bytes == TABLE // 4 + SIZE + 4 * SIZE
    assert found["weights"].private == found["codes"].private == 0
    assert 0 < found["codes"].shared <= found["codes"].bundle_bytes + 8192
    assert found["ids"].bundle_bytes > 8 * SIZE
    assert 50 * SIZE < found["ids"].private < 500 * SIZE
    assert found["scratch"].private < TABLE
    assert found["program"].private > 0 and found["program"].shared > 0


def test_doctor_prints_it(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", str(bundle)]) == 0
    out = capfd.readouterr().out
    assert all(re.search(rf"^{name} ", out, re.MULTILINE) for name in (*PARTS, "together"))


def test_a_bundle_that_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    recommender().save(tmp_path / "b")
    with pytest.raises(MachineError, match=r"in a fresh process failed: .*unknown engine 'toy-mean'"):
        footprint(tmp_path / "b")


def test_a_damaged_bundle_is_named_as_everywhere(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(bundle, tmp_path / "b", symlinks=True)
    wrong = next((tmp_path / "b").rglob("source-items.safetensors"))
    raw = bytearray(wrong.read_bytes())
    raw[-1] ^= 1
    wrong.chmod(0o600)
    wrong.write_bytes(raw)
    with pytest.raises(BundleError):
        footprint(tmp_path / "b")
    assert run(["doctor", str(tmp_path / "b")]) == 2
    assert "fresh process" not in capsys.readouterr().err


def test_two_processes_hold_one_table(bundle: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(bundle)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as two:
        for process in (one, two):
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        pages = [_pages(process.pid, "source-items.safetensors") for process in (one, two)]
        for process in (one, two):
            process.communicate()
    for resident, proportional, private in pages:
        assert resident >= TABLE
        assert proportional <= resident // 2 + 4096
        assert private == 0


def _pages(pid: int, name: str) -> np.ndarray:
    """Bytes resident, by share, and private of the mappings of a file."""
    total, own = np.zeros(3, np.int64), False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            own = line.endswith(name)
        elif own:
            for place, key in enumerate(("Rss", "Pss", "Private_(?:Clean|Dirty)")):
                if found := re.match(rf"{key}:\s+(\d+) kB", line):
                    total[place] += int(found[1]) << 10
    return total
