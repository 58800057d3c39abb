"""`leanrec tune`: what it prints, and that its settings are those that `leanrec train` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Outcome

Leanrec = Callable[..., Outcome]

pytest.importorskip("optuna")


def test_its_settings_train_the_same_model(leanrec: Leanrec, data_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "search"
    found = leanrec("tune", "item-knn", "--data", data_folder, "--out", out, "--trials", 3, "--json")
    assert found.code == 0, found.err
    assert found.json["trials"] == 3
    assert found.err.count("\ntrial ") == 3
    arguments = ("--data", data_folder, "--config", out / "best.toml", "--out", tmp_path / "run", "--json")
    again = leanrec("train", "item-knn", *arguments).json
    first = leanrec("evaluate", out / "best", again["run"], "--data", data_folder, "--json").json["results"]
    assert first[0]["metrics"] == first[1]["metrics"]


def test_the_front_is_printed(leanrec: Leanrec, data_folder: Path, tmp_path: Path) -> None:
    arguments = ("--data", data_folder, "--out", tmp_path / "s", "--trials", 2, "--objectives", "recall@5,bytes")
    found = leanrec("tune", "item-knn", *arguments)
    assert found.code == 0, found.err
    assert {"recall@5", "bytes", "neighbours"} <= set(found.out.splitlines()[0].split())
    assert (tmp_path / "s" / "pareto.csv").exists()


def test_a_poor_command_line(leanrec: Leanrec, data_folder: Path, tmp_path: Path) -> None:
    arguments = ("tune", "item-knn", "--data", data_folder, "--out", tmp_path / "s")
    leanrec(*arguments, "--resume").refused(2, "no search to resume")
    leanrec(*arguments, "--metric", "ndgc@10").refused(2, "ndgc@10", "ndcg")
    leanrec(*arguments, "--sampler", "grid").refused(2, "--sampler")
