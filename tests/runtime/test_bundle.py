"""Bundles: what is written is read. What was touched, cut, swapped or made up is the matter of tests/battery."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanrec.core.errors import BundleError, InputError, MachineError
from leanrec.runtime import bundle as bundles
from leanrec.runtime.bundle import bundle_id, history_folder, open_bundle, resolve_bundle, write_bundle
from leanrec.runtime.manifest import CHUNK, hash_chunks
from leanrec.runtime.recommender import Recommender

from .toys import ForgetfulSource, recommender

VALUES = "source-items.safetensors"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    recommender(index="certified-int8").save(tmp_path / "b")
    return tmp_path / "b"


def read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return manifest


def test_what_is_written_is_read(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(3, dtype=np.int64)}
    files = {"x.safetensors": arrays, "items.parquet": b"any bytes"}
    identity = write_bundle(tmp_path / "b", files, {"k": 1}, lineage={"l": 1}, card={"c": 2.5}, certificate={"d": []})
    opened = open_bundle(tmp_path / "b")
    assert opened.id == identity == bundle_id(files, {"k": 1})
    np.testing.assert_array_equal(opened.tensors["x"]["a"], arrays["a"])
    assert not opened.tensors["x"]["a"].flags.writeable
    assert opened.items is not None and opened.items[:] == b"any bytes"
    manifest = opened.manifest
    assert (manifest.lineage, manifest.card, manifest.certificate) == ({"l": 1}, {"c": 2.5}, {"d": []})
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o755


def test_the_id_is_what_the_recommender_is_not_how_it_was_made(tmp_path: Path) -> None:
    one, two = (write_bundle(tmp_path / n, {}, {"k": 1}, card={"name": n}) for n in ("one", "two"))
    assert one == two
    assert bundle_id({}, {"k": 2}) != one


def test_large_files_are_hashed_in_chunks(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {"x.safetensors": {"a": np.ones(CHUNK // 4 + 5, np.float32)}}, {})
    assert len(read_manifest(tmp_path / "b")["files"]["x.safetensors"]["chunks"]) == 2
    open_bundle(tmp_path / "b")
    with open(tmp_path / "b" / "x.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x40")
    with pytest.raises(BundleError, match="changed after it was written"):
        open_bundle(tmp_path / "b")


def test_a_manifest_larger_than_any_is_not_read(saved: Path) -> None:
    os.truncate(saved / "manifest.json", 1 << 30)
    with pytest.raises(BundleError, match="larger than 8 MiB"):
        open_bundle(saved)


def test_a_bundle_replaced_while_it_is_read_is_read_again(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = recommender(seed=1)
    read, calls = bundles._read_manifest, []

    def slow(folder: int, where: str) -> bytes:
        raw = read(folder, where)
        if not calls:
            calls.append(1)
            newer.save(saved)  # the files of the older one are gone now
        return raw

    monkeypatch.setattr(bundles, "_read_manifest", slow)
    assert open_bundle(saved).id == newer.id


def test_a_bundle_removed_while_it_is_read_is_an_error(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = bundles._read_manifest

    def slow(folder: int, where: str) -> bytes:
        raw = read(folder, where)
        shutil.rmtree(saved)
        return raw

    monkeypatch.setattr(bundles, "_read_manifest", slow)
    with pytest.raises(BundleError, match="lacks"):
        open_bundle(saved)


def test_models_that_share_a_table_share_its_pages(tmp_path: Path) -> None:
    """Two bundles in two places, one mapping; it goes when the last of them goes."""
    table = np.arange(4096, dtype=np.float32)
    for name, other in (("one", 1), ("two", 2)):
        write_bundle(tmp_path / name, {"x.safetensors": {"a": table}, "y.safetensors": {"b": np.array([other])}}, {})
    one, two = (open_bundle(tmp_path / name) for name in ("one", "two"))
    address = one.tensors["x"]["a"].ctypes.data
    assert two.tensors["x"]["a"].ctypes.data == address
    assert one.tensors["y"]["b"].ctypes.data != two.tensors["y"]["b"].ctypes.data
    shutil.rmtree(tmp_path / "one")
    del one
    np.testing.assert_array_equal(two.tensors["x"]["a"], table)
    held = len(bundles._MAPPED)
    del two
    gc.collect()
    assert len(bundles._MAPPED) < held


def test_a_file_edited_in_place_is_not_shared(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_bundle(tmp_path / name, {"x.safetensors": {"a": np.ones(8, np.float32)}}, {})
    one = open_bundle(tmp_path / "one")
    with open(tmp_path / "one" / "x.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x40")
    two = open_bundle(tmp_path / "two")
    assert one.tensors["x"]["a"].tolist() != [1.0] * 8
    assert two.tensors["x"]["a"].tolist() == [1.0] * 8


def test_places(tmp_path: Path) -> None:
    write_bundle(tmp_path / "run" / "bundle", {}, {})
    assert resolve_bundle(tmp_path / "run") == tmp_path / "run" / "bundle"
    assert resolve_bundle(tmp_path / "run" / "bundle") == tmp_path / "run" / "bundle"
    assert history_folder(tmp_path / "run") == tmp_path / "run" / "history"
    assert history_folder(tmp_path / "run" / "bundle") == tmp_path / "run" / "history"
    assert history_folder(tmp_path / "lean") == tmp_path / "lean.history"
    with pytest.raises(InputError, match="does not exist"):
        resolve_bundle(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is not a bundle: it has no manifest\.json"):
        resolve_bundle(tmp_path / "empty")
    with pytest.raises(BundleError, match="cannot be opened as a bundle"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="cannot be opened as a bundle"):
        open_bundle(tmp_path / "run" / "bundle" / "manifest.json")


def test_only_a_bundle_or_nothing_is_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists and is not a bundle"):
        write_bundle(precious, {}, {})
    with pytest.raises(InputError, match="exists and is not a bundle"):
        write_bundle(precious / "thesis.tex", {}, {})
    assert (precious / "thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", {}, {})


def test_what_cannot_be_read_back_is_not_published(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {}, {"k": 1})
    with pytest.raises(BundleError, match="NaN or infinity"):
        write_bundle(tmp_path / "b", {"x.safetensors": {"a": np.array([np.nan], np.float32)}}, {"k": 2})
    assert open_bundle(tmp_path / "b").manifest.recommender == {"k": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundles, "_write", full)
    with pytest.raises(MachineError, match="no space left"):
        write_bundle(tmp_path / "b", {"x.safetensors": {}}, {})
    assert not list(tmp_path.iterdir())


def test_hash_is_sha256() -> None:
    assert hash_chunks(b"abc") == [hashlib.sha256(b"abc").hexdigest()]
    assert hash_chunks(b"") == []


def test_a_source_that_reads_less_of_a_list_than_was_written_is_refused(tmp_path: Path) -> None:
    recommender(fallback=ForgetfulSource("f", 50, [4])).save(tmp_path / "whole")
    assert Recommender.load(tmp_path / "whole").fallback is not None
    recommender(fallback=ForgetfulSource("f", 50, [4, 2])).save(tmp_path / "cut")
    with pytest.raises(BundleError, match=r"fallback.config.rows has 2 entries, of which 1 are read"):
        Recommender.load(tmp_path / "cut")
