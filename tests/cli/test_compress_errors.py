"""What cannot be compressed, verified or imported: one clear error each. Budgets are in tests/compression."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from leanrec.cli.main import run
from leanrec.core.tensors import serialize
from tests.battery.forge import read_files, sealed
from tests.tiny import tiny_log

from .conftest import Outcome

Leanrec = Callable[..., Outcome]


@pytest.fixture(scope="module")
def bundle(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with item vectors, imported with the ids of the data set."""
    folder = tmp_path_factory.mktemp("imported")
    table = np.random.default_rng(0).standard_normal((40, 8), dtype=np.float32)
    save_file({"items.weight": table}, folder / "w.safetensors")
    told = ["import", "torch", str(folder / "w.safetensors"), "--data", str(data_folder), "--out", str(folder / "b")]
    assert run([*told, "--set", "items=items.weight"]) == 0
    return folder / "b"


def test_a_bundle_of_another_version(leanrec: Leanrec, bundle: Path, data_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    (tmp_path / "b" / "manifest.json").write_text(json.dumps({**manifest, "format": 7}))
    for verb in (
        ("compress", tmp_path / "b", "--data", data_folder, "--out", tmp_path / "c"),
        ("verify", tmp_path / "b"),
    ):
        leanrec(*verb).refused(2, "a bundle of format 7, this leanrec reads format 1", "write it again")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("ids", ["whole numbers", "other names", "a few of them"])
def test_calibration_data_of_another_schema(leanrec: Leanrec, bundle: Path, tmp_path: Path, ids: str) -> None:
    number = pl.col("item_id").str.strip_prefix("i").cast(pl.Int64)
    named = {
        "whole numbers": number,
        "other names": pl.format("film {}", number),
        "a few of them": pl.when(number < 4).then(pl.col("item_id")).otherwise(pl.format("film {}", number)),
    }[ids]
    tiny_log().with_columns(named.alias("item_id")).write_parquet(tmp_path / "other.parquet")
    assert leanrec("prepare", tmp_path / "other.parquet", "--out", tmp_path / "other").code == 0
    found = leanrec("compress", bundle, "--data", tmp_path / "other", "--out", tmp_path / "c")
    found.refused(2, "was trained on", "items are called")
    assert not (tmp_path / "c").exists()


def test_weights_that_are_not_numbers(leanrec: Leanrec, bundle: Path, data_folder: Path, tmp_path: Path) -> None:
    table = np.ones((40, 8), np.float32)
    table[7, 3] = np.nan
    save_file({"items.weight": table}, tmp_path / "w.safetensors")
    told = ("import", "torch", tmp_path / "w.safetensors", "--out", tmp_path / "c", "--set", "items=items.weight")
    leanrec(*told).refused(2, "'items.weight' holds numbers that are not finite")
    shutil.copytree(bundle, tmp_path / "b")
    damaged = {**read_files(bundle), "source-items.safetensors": serialize({"table": table})}
    for name, raw in sealed(damaged).items():
        (tmp_path / "b" / name).write_bytes(raw)
    found = leanrec("compress", tmp_path / "b", "--data", data_folder, "--out", tmp_path / "c")
    found.refused(2, "NaN or infinity in 'table'", "has diverged")
    assert not (tmp_path / "c").exists()
