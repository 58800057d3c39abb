"""The command line as a person meets it: run in this process, or as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from leanrec.cli.main import run
from tests.tiny import tiny_log


@dataclass(frozen=True)
class Outcome:
    """Exit code and both streams of one command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line of standard output."""
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return found

    def refused(self, code: int, *words: str) -> None:
        """One clear sentence on standard error, holding every word; no traceback; the right exit code."""
        assert self.code == code, self.err
        assert "Traceback" not in self.err
        last = self.err.strip().splitlines()[-1]
        assert last.startswith("leanrec: "), self.err
        for word in words:
            assert word in last, last


@pytest.fixture
def leanrec(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `leanrec ARGUMENTS` in this process."""

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


def leanrec_process(*arguments: object, **options: Any) -> Outcome:
    """Run `leanrec ARGUMENTS` as a process of its own."""
    command = [sys.executable, "-m", "leanrec", *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, **options)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "events.parquet"
    tiny_log().write_parquet(path)
    return path


@pytest.fixture(scope="session")
def data_folder(log_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "data"
    titles = pl.DataFrame({"item_id": [f"i{n}" for n in range(40)], "title": [f"Title {n}" for n in range(40)]})
    titles.write_parquet(folder.parent / "items.parquet")
    assert run(["prepare", str(log_file), "--items", str(folder.parent / "items.parquet"), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def popular_run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "popular"
    assert run(["train", "popular", "--data", str(data_folder), "--out", str(folder)]) == 0
    return folder
