"""docs/importing.md as it stands: a torch module is trained, imported, compressed, verified, served and asked."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest

from leanrec.cli.main import run
from leanrec.runtime.recommender import Recommender
from tests.serving.harness import running
from tests.tiny import tiny_log

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "importing.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
CONSOLE = re.findall(r"^```console\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[0].splitlines()


def test_it_takes_less_than_forty_lines() -> None:
    assert len([line for line in (*PYTHON[0].splitlines(), *CONSOLE) if line.strip()]) < 40


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    tiny_log().write_parquet(tmp_path / "events.parquet")
    (tmp_path / "theirs.py").write_text(PYTHON[0])
    monkeypatch.chdir(tmp_path)
    python, *verbs, serve, curl = (shlex.split(line.removeprefix("$ ")) for line in CONSOLE)
    assert python == ["python", "theirs.py"]
    names: dict[str, Any] = runpy.run_path("theirs.py")
    assert [verb[1] for verb in verbs] == ["import", "compress", "verify"]
    for verb in verbs:
        assert run(verb[1:]) == 0, capfd.readouterr().err
    exec(compile(PYTHON[1], "importing.md", "exec"), names)

    assert (serve[:3], curl[:2]) == (["leanrec", "serve", "lean"], ["curl", "-s"])
    where, body = curl[2], json.loads(curl[curl.index("-d") + 1])
    with running(tmp_path / "lean") as server:
        told = httpx.post(where.replace("http://127.0.0.1:8000", server.url), json=body, timeout=60).json()
    theirs, lean = (Recommender.load(name).recommend([body["user_id"]], k=body["k"]) for name in ("theirs", "lean"))
    assert [item["item_id"] for item in told["items"]] == lean["item_id"].to_list() == theirs["item_id"].to_list()
