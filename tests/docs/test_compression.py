"""The table of steps in docs/compression.md is what the registry and the settings say."""

from __future__ import annotations

import re
from pathlib import Path

from leanrec.compression import STEPS
from leanrec.compression.base import STAGES
from leanrec.compression.tables import KINDS
from leanrec.core.config import to_dict

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "compression.md").read_text()


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose head begins with this, without the head."""
    lines = TEXT[TEXT.index(f"| {first} |") :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_step_of_the_registry_has_one_row() -> None:
    names = [words(row[0])[0] for row in rows("step")]
    assert len(names) == len(set(names))
    assert set(names) == set(STEPS)


def test_stages_and_settings_are_those_of_the_code() -> None:
    table = rows("step")
    assert all(len(row) == 5 and all(row) for row in table)
    for step, stage, _, settings, _ in table:
        kind = STEPS[words(step)[0]]
        assert stage == kind.stage, step
        assert set(words(settings)) <= set(to_dict(kind.Config())), step
        assert set(re.findall(r"\*`([^`]+)`\*", settings)) == set(kind.Config.space), f"{step}: what a search tries"
    assert [row[1] for row in table] == sorted((row[1] for row in table), key=STAGES.index)


def test_every_kind_of_item_vectors_is_described() -> None:
    assert sorted(kind for row in rows("kind") for kind in words(row[0])) == sorted(KINDS)


def test_the_head_of_the_ladders_is_the_one_that_is_written() -> None:
    source = (ROOT / "benchmarks" / "ladder.py").read_text()
    head = source.partition('_HEAD = """')[2].partition('"""')[0]
    assert head and (ROOT / "docs" / "ladders.md").read_text().startswith(head)
