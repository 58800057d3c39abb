"""Battery row 5: hostile bundles are refused in one sentence, quickly, in bounded memory, without running anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanrec.compression.verify import verify
from leanrec.core.errors import BundleError, PromiseError
from leanrec.core.tensors import serialize
from leanrec.index import INDEXES
from leanrec.runtime.recommender import Recommender

from .classes import CLASSES, SAFE
from .forge import read_files, sealed
from .kinds import KINDS, built, table

SEED = 20_251_125
GROWN = 400 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


def made(folder: Path, name: str) -> Path:
    """The bundle of a kind, built when it is first asked for."""
    if not (folder / name).exists():
        what, kind = next(pair for pair in KINDS if "-".join(pair) == name)
        built(what, kind).save(folder / name)
    return folder / name


@pytest.fixture(scope="module")
def bundles(folder: Path) -> Path:
    """A bundle of every kind."""
    for pair in KINDS:
        made(folder, "-".join(pair))
    return folder


def run(bundles: Path, place: Path, **job: Any) -> dict[str, Any]:
    """What the child counted; its last words when it did not come back."""
    place.mkdir(exist_ok=True)
    (place / "job.json").write_text(json.dumps({"bundles": str(bundles), "folder": str(place), **job}))
    command = [sys.executable, "-O", "-m", "tests.battery.child", str(place / "job.json")]
    with (place / "said").open("w+b") as said:
        done = subprocess.run(command, stdout=said, stderr=subprocess.PIPE, timeout=3000, check=False)
    last = (place / "said").read_text(errors="replace").strip()
    assert done.returncode == 0, f"the process ended with {done.returncode} at {last!r}: {done.stderr[-3000:].decode()}"
    found: dict[str, Any] = json.loads((place / "result.json").read_text())
    assert not found["wrong"], "\n".join(found["wrong"])
    assert found["grown"] < GROWN, f"memory grew by {found['grown'] >> 20} MiB"
    return found


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in SAFE])
def test_each_is_refused_by_its_own_words(folder: Path, tmp_path: Path, name: str) -> None:
    kind, attack, words = CLASSES[name]
    shutil.copytree(made(folder, kind), tmp_path / "b")
    attack(tmp_path / "b")
    with pytest.raises(BundleError, match=re.escape(words)) as caught:
        Recommender.load(tmp_path / "b")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in INDEXES if INDEXES[kind].exact and not kind.startswith("coded")])
def test_an_index_of_another_table_is_found_by_verify(folder: Path, tmp_path: Path, kind: str) -> None:
    """Its arrays have the right shapes and hashes: only a look at the bounds tells. Coded ones keep no arrays."""
    files = read_files(made(folder, f"index-{kind}"))
    strange = INDEXES[kind].build(table(seed=9) * np.float32(0.01))
    shutil.copytree(folder / f"index-{kind}", tmp_path / "b")
    for name, raw in sealed({**files, "source-index.safetensors": serialize(strange.tensors())}).items():
        (tmp_path / "b" / name).write_bytes(raw)
    Recommender.load(tmp_path / "b")
    with pytest.raises(PromiseError, match="the index was not built from this table"):
        verify(tmp_path / "b")


@pytest.fixture(scope="module")
def found(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process made of all hand-made bundles and of 2,000 mutations: starting it costs more than these."""
    return run(bundles, tmp_path_factory.mktemp("opened"), classes=list(CLASSES), seed=SEED, count=2000)


@pytest.mark.timeout(1200)
def test_hand_made_bundles(found: dict[str, Any]) -> None:
    assert len(CLASSES) >= 60
    counts = found["by hand"]
    assert (counts["tried"], counts["same"], counts["refused"]) == (len(CLASSES), 2, len(CLASSES) - 2)
    assert not Path("boom").exists(), "a pickle was opened: it runs `touch boom` where the process works"


@pytest.mark.timeout(1200)
def test_mutations(found: dict[str, Any]) -> None:
    assert found["mutations"]["tried"] == 2000
    assert found["mutations"]["refused"] > 1000


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(10))
def test_many_mutations(bundles: Path, tmp_path: Path, part: int) -> None:
    found = run(bundles, tmp_path / "w", seed=SEED, first=2000 + part * 10_000, count=10_000)
    assert found["mutations"]["tried"] == 10_000
