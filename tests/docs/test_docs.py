"""Documents cannot rot: their examples run, their references are what the code says, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import polars as pl
import pytest

from leanrec.cli.main import run
from leanrec.cli.reference import reference
from tests.tiny import tiny_log

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def verbs() -> list[list[str]]:
    """Every `$ leanrec ...` line of the README."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("$ leanrec")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the examples name."""
    tiny_log().write_parquet(tmp_path / "events.parquet")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(40)]}).with_row_index("n")
    items = items.select("item_id", title=pl.format("Title {}", "n"), category=pl.format("kind {}", pl.col("n") % 3))
    items.write_parquet(tmp_path / "items.parquet")
    theirs = (
        tiny_log().select("user_id").unique(maintain_order=True).join(items.head(10).select("item_id"), how="cross")
    )
    theirs.with_columns(rank=pl.int_range(1, pl.len() + 1).over("user_id")).write_csv(tmp_path / "theirs.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_line_reference_is_current() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference(), "run  make docs"


def test_the_python_example_runs(folder: Path) -> None:
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert (folder / "bundle" / "manifest.json").exists()


def test_the_command_line_examples_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(verbs()) >= 7
    for arguments in verbs():
        if arguments[0] == "serve":
            assert (folder / arguments[1] / "manifest.json").exists()
            continue
        small = ["--set", "epochs=1", "--set", "dim=8"] if arguments[:2] == ["train", "esasrec"] else []
        quick = [part.replace('"esasrec"', '{model="esasrec", epochs=1, dim=8}') for part in arguments]
        assert run([*quick, *small]) == 0, capfd.readouterr().err


def test_the_quickstart_is_the_target_of_make() -> None:
    assert "$ make quickstart\n" in README
    assert "\nquickstart:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target
