"""The kernel's account of this process, against what the process did."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leanrec.core.smaps import mappings, own_memory


def test_a_mapped_file_is_there_with_its_pages(tmp_path: Path) -> None:
    size = 1 << 22
    path = tmp_path / "with two  blanks.bin"
    path.write_bytes(bytes(size))
    mapped = np.memmap(path, np.uint8, "r")
    assert mapped.sum() == 0
    found = [fields for name, fields in mappings() if name == str(path)]
    assert sum(fields["Rss"] for fields in found) == size
    assert sum(fields["Anonymous"] for fields in found) == 0


def test_parts_make_the_whole() -> None:
    held = np.ones(1 << 20)
    parts = list(mappings())
    assert any(name == "[stack]" for name, _ in parts) and any(name == "" for name, _ in parts)
    whole = own_memory()["Anonymous"]
    assert held.nbytes < whole
    assert abs(sum(fields["Anonymous"] for _, fields in parts) - whole) < held.nbytes
