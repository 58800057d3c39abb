"""docs/architecture.md names every package, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import leanrec

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(leanrec.__file__).parent


def _tree() -> list[str]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    block = text[text.index("src/leanrec/") : text.index("ground floor\n")]
    return re.findall(r"^  (\w+)/", block, re.MULTILINE)


def test_every_package_stands_in_the_tree_and_the_tree_is_there() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(_tree()) == packages


def test_the_tree_is_in_the_order_that_imports_obey() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert _tree() == project["tool"]["importlinter"]["contracts"][0]["layers"]


def test_every_package_says_what_it_is() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        assert path.read_text().startswith('"""'), path
