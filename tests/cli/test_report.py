"""`leanrec report` as a person meets it."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from torch.utils.tensorboard import SummaryWriter


@pytest.fixture
def run(popular_run: Path, tmp_path: Path) -> Path:
    """A run with something on its learning curves."""
    folder = tmp_path / "run"
    shutil.copytree(popular_run, folder)
    writer = SummaryWriter(str(folder / "tensorboard"))
    for step, loss in enumerate([3.0, 2.0, 1.5]):
        writer.add_scalar("train/loss", loss, step)
    writer.close()
    return folder


def test_a_run_an_evaluation_and_an_audit_on_one_page(leanrec, run, data_folder, tmp_path):
    for verb in (["evaluate", run, "--data", data_folder], ["audit", data_folder]):
        (tmp_path / f"{verb[0]}.json").write_text(leanrec(*verb, "--json").out)
    page = tmp_path / "report.html"
    done = leanrec(
        "report",
        run,
        tmp_path / "evaluate.json",
        tmp_path / "audit.json",
        "--out",
        page,
        "--data",
        data_folder,
        "--json",
    )
    assert done.code == 0, done.err
    assert set(done.json["evaluations"]) == {"evaluate.json", data_folder.name}
    assert done.json["runs"][0]["curves"]["train/loss"] == [[0.0, 3.0], [1.0, 2.0], [2.0, 1.5]]
    assert done.json["audits"]["audit.json"]["clean"] is True
    tree = ElementTree.fromstring(page.read_text().removeprefix("<!DOCTYPE html>"))
    text = " ".join(tree.itertext())
    for expected in ("popular", "users=new", "train/loss", "nothing found"):
        assert expected in text


def test_what_is_no_result_is_refused(leanrec, tmp_path):
    out = tmp_path / "report.html"
    leanrec("report", tmp_path / "none", "--out", out).refused(2, "is no run folder")
    (tmp_path / "other.json").write_text('{"a": 1}')
    leanrec("report", tmp_path / "other.json", "--out", out).refused(2, "neither an evaluation nor an audit")
    leanrec("report", tmp_path / "other.json", "--out", tmp_path).refused(2, "is a folder")
