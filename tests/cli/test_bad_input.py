"""What people really do: each ends in one clear sentence and the right exit code, or in a repair that is counted.

Nothing half written is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.tiny import tiny_log

from .conftest import Outcome, leanrec_process

Leanrec = Callable[..., Outcome]


def written(folder: Path) -> set[str]:
    """Everything in a folder, hidden files too."""
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def prepare(leanrec: Leanrec, tmp_path: Path) -> Callable[..., Outcome]:
    """Prepare a log (a frame, or text of a CSV file) and check that a refusal leaves nothing."""

    def call(log: pl.DataFrame | str, *options: object) -> Outcome:
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        path = folder / ("log.csv" if isinstance(log, str) else "log.parquet")
        if isinstance(log, str):
            path.write_text(log)
        else:
            log.write_parquet(path)
        found = leanrec("prepare", path, "--out", tmp_path / "out", "--json", *options)
        if found.code:
            assert written(tmp_path) == {"in"}
        return found

    return call


class TestLogs:
    def test_absent_file(self, leanrec: Leanrec, tmp_path: Path) -> None:
        leanrec("prepare", tmp_path / "nothing.csv", "--out", tmp_path / "out").refused(2, "nothing.csv")
        assert written(tmp_path) == set()

    def test_wrong_columns_name_the_column_and_what_there_is(self, prepare: Callable[..., Outcome]) -> None:
        log = tiny_log().rename({"user_id": "who"})
        prepare(log).refused(2, "user", "who", "timestamp")

    def test_a_wrong_column_name_is_met_with_the_nearest(self, prepare: Callable[..., Outcome]) -> None:
        prepare(tiny_log(), "--user-col", "usr_id").refused(2, "usr_id", "user_id")

    def test_empty_file(self, prepare: Callable[..., Outcome]) -> None:
        prepare("").refused(2, "log.csv")

    def test_only_a_header(self, prepare: Callable[..., Outcome]) -> None:
        prepare("user_id,item_id,timestamp\n").refused(2)

    def test_missing_ids_are_dropped_and_counted(self, prepare: Callable[..., Outcome]) -> None:
        log = tiny_log()
        holes = pl.DataFrame({"user_id": [None, "u1"], "item_id": ["i1", None], "timestamp": [1_600_000_000] * 2})
        found = prepare(pl.concat([log, holes]))
        assert found.code == 0, found.err
        assert sum(found.json["report"]["dropped"].values()) == 2

    def test_nan_ids_are_dropped_and_counted(self, prepare: Callable[..., Outcome]) -> None:
        log = tiny_log().with_columns(pl.col("user_id").str.slice(1).cast(pl.Float64))
        holes = pl.DataFrame({"user_id": [float("nan")] * 3, "item_id": ["i1"] * 3, "timestamp": [1_600_000_000] * 3})
        found = prepare(pl.concat([log, holes]))
        assert found.code == 0, found.err
        assert sum(found.json["report"]["dropped"].values()) == 3

    def test_milliseconds_are_repaired_and_counted(self, prepare: Callable[..., Outcome]) -> None:
        log = tiny_log().with_columns(pl.col("timestamp") * 1000)
        found = prepare(log)
        assert found.code == 0, found.err
        assert found.json["report"]["repaired"]
        assert found.json["report"]["first_time"] == 1_600_000_000

    def test_times_as_text_are_repaired_and_counted(self, prepare: Callable[..., Outcome]) -> None:
        log = tiny_log().with_columns(pl.from_epoch("timestamp").dt.strftime("%Y-%m-%d %H:%M:%S").alias("timestamp"))
        found = prepare(log)
        assert found.code == 0, found.err
        assert found.json["report"]["repaired"]
        assert found.json["report"]["first_time"] == 1_600_000_000

    def test_times_that_are_no_times(self, prepare: Callable[..., Outcome]) -> None:
        prepare(tiny_log().with_columns(timestamp=pl.lit("yesterday"))).refused(2, "no event is left", "timestamp")

    def test_a_user_with_one_event_is_trained_on_and_not_judged(
        self, prepare: Callable[..., Outcome], leanrec: Leanrec, tmp_path: Path
    ) -> None:
        single = pl.DataFrame({"user_id": ["lone"], "item_id": ["i1"], "timestamp": [1_600_000_000]})
        found = prepare(pl.concat([tiny_log(), single]))
        assert found.code == 0, found.err
        assert found.json["report"]["users"] == 61
        assert leanrec("train", "popular", "--data", tmp_path / "out", "--out", tmp_path / "run").code == 0
        judged = leanrec("evaluate", tmp_path / "run", "--data", tmp_path / "out", "--json")
        assert judged.json["results"][0]["users"] == 60

    def test_nobody_left(self, prepare: Callable[..., Outcome]) -> None:
        prepare(tiny_log(), "--min-count", 1000).refused(2)

    def test_an_unknown_split(self, prepare: Callable[..., Outcome]) -> None:
        prepare(tiny_log(), "--split", "leave-two-out").refused(2, "leave-two-out", "leave-one-out")

    def test_another_folder_is_never_replaced(self, leanrec: Leanrec, log_file: Path, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        leanrec("prepare", log_file, "--out", tmp_path).refused(2, str(tmp_path))
        assert written(tmp_path) == {"thesis.tex"}


class TestTraining:
    def test_an_unknown_model_is_met_with_the_nearest(self, leanrec: Leanrec, tmp_path: Path) -> None:
        leanrec("train", "populer", "--data", tmp_path, "--out", tmp_path / "run").refused(2, "populer", "'popular'")

    @pytest.mark.parametrize(("model", "key", "near"), [("popular-recent", "dayz", "days")])
    def test_an_unknown_setting_is_met_with_the_nearest(
        self, leanrec: Leanrec, data_folder: Path, tmp_path: Path, model: str, key: str, near: str
    ) -> None:
        refused = leanrec("train", model, "--data", data_folder, "--out", tmp_path / "run", "--set", f"{key}=3")
        refused.refused(2, key, near)
        assert written(tmp_path) == set()

    def test_an_unknown_setting_in_a_file(self, leanrec: Leanrec, data_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "c.toml").write_text("dayz = 3\n")
        config = tmp_path / "c.toml"
        arguments = ("train", "popular-recent", "--data", data_folder, "--out", tmp_path / "run", "--config", config)
        leanrec(*arguments).refused(2, "dayz", "days")
        config.write_text("days = = 3\n")
        leanrec(*arguments).refused(2, "c.toml", "TOML")
        config.unlink()
        leanrec(*arguments).refused(2, "c.toml", "does not exist")

    def test_a_data_folder_that_is_none(self, leanrec: Leanrec, tmp_path: Path) -> None:
        leanrec("train", "popular", "--data", tmp_path, "--out", tmp_path / "run").refused(2, "leanrec prepare")

    def test_nothing_to_resume(self, leanrec: Leanrec, data_folder: Path, tmp_path: Path) -> None:
        arguments = ("train", "popular", "--data", data_folder, "--out", tmp_path / "run", "--resume")
        leanrec(*arguments).refused(2, "--resume")

    def test_resuming_another_run(self, leanrec: Leanrec, data_folder: Path, tmp_path: Path) -> None:
        arguments = ("train", "popular", "--data", data_folder, "--out", tmp_path / "run")
        assert leanrec(*arguments, "--seed", 1).code == 0
        leanrec(*arguments, "--seed", 2, "--resume").refused(2, "seed", "1", "2")
        assert leanrec(*arguments, "--seed", 1, "--resume").code == 0

    def test_a_run_is_replaced_and_another_folder_is_not(
        self, leanrec: Leanrec, data_folder: Path, tmp_path: Path
    ) -> None:
        arguments = ("train", "popular", "--data", data_folder, "--out", tmp_path / "run")
        assert leanrec(*arguments).code == 0
        again = leanrec(*arguments)
        assert again.code == 0
        assert "replacing" in again.err
        (tmp_path / "run" / "run.json").unlink()
        leanrec(*arguments).refused(2, "not a run folder")


class TestBundles:
    @pytest.fixture
    def bundle(self, popular_run: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(popular_run / "bundle", tmp_path / "bundle"))

    @pytest.mark.parametrize("verb", ["recommend", "evaluate", "verify", "serve"])
    def test_a_truncated_bundle(self, leanrec: Leanrec, bundle: Path, data_folder: Path, verb: str) -> None:
        victim = max(bundle.glob("*.safetensors"), key=lambda path: path.stat().st_size)
        os.truncate(victim, victim.stat().st_size // 2)
        more = {"recommend": ["--history", "i1"], "evaluate": ["--data", data_folder], "serve": ["--port", 0]}
        leanrec(verb, bundle, *more.get(verb, [])).refused(2, victim.name)

    def test_an_edited_file(self, leanrec: Leanrec, bundle: Path) -> None:
        victim = bundle / "ids.safetensors"
        content = bytearray(victim.read_bytes())
        content[-1] ^= 1
        victim.write_bytes(bytes(content))
        leanrec("verify", bundle).refused(2, "ids.safetensors", "changed")

    def test_an_edited_manifest(self, leanrec: Leanrec, bundle: Path) -> None:
        manifest = bundle / "manifest.json"
        body = json.loads(manifest.read_text())
        body["card"]["model"] = "better"
        manifest.write_text(json.dumps(body))
        leanrec("verify", bundle).refused(2, "manifest.json", "edited")

    def test_no_bundle(self, leanrec: Leanrec, tmp_path: Path) -> None:
        leanrec("recommend", tmp_path / "none", "--user", "u").refused(2, "none", "does not exist")
        leanrec("recommend", tmp_path, "--user", "u").refused(2, "not a bundle")

    def test_an_unknown_item(self, leanrec: Leanrec, bundle: Path) -> None:
        leanrec("recommend", bundle, "--history", "i1,i999").refused(2, "i999")

    def test_an_unknown_user_gets_popular_items_and_is_told(self, leanrec: Leanrec, popular_run: Path) -> None:
        found = leanrec("recommend", popular_run, "--user", "nobody", "--json")
        assert found.code == 0
        assert found.json["degraded"] is True
        assert "popular" in found.err

    def test_a_table_without_the_columns(self, leanrec: Leanrec, data_folder: Path, tmp_path: Path) -> None:
        pl.DataFrame({"user": ["u1"], "item_id": ["i1"], "rank": [1]}).write_csv(tmp_path / "t.csv")
        leanrec("evaluate", tmp_path / "t.csv", "--data", data_folder).refused(2, "user_id")


class TestMachine:
    def test_a_port_in_use(self, popular_run: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            leanrec_process("serve", popular_run, "--port", port).refused(3, str(port), "--port")

    def test_a_file_where_a_folder_should_be(self, leanrec: Leanrec, log_file: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        leanrec("prepare", log_file, "--out", tmp_path / "file" / "out").refused(2, "file", "choose another path")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class TestFullDisk:
    def test_prepare(self, leanrec: Leanrec, tiny_disk: Path, tmp_path: Path) -> None:
        tiny_log(users=3000, items=500).write_parquet(tmp_path / "log.parquet")
        leanrec("prepare", tmp_path / "log.parquet", "--out", tiny_disk / "data").refused(3, "space", str(tiny_disk))
        assert written(tiny_disk) == set()

    def test_train(self, leanrec: Leanrec, data_folder: Path, tiny_disk: Path) -> None:
        fill(tiny_disk, leave=4 << 10)
        arguments = ("train", "popular", "--data", data_folder, "--out", tiny_disk / "run")
        leanrec(*arguments).refused(3, "space", str(tiny_disk))
        assert not (tiny_disk / "run" / "bundle").exists()

    def test_recommend(self, leanrec: Leanrec, popular_run: Path, tiny_disk: Path) -> None:
        fill(tiny_disk, leave=0)
        arguments = ("recommend", popular_run, "--all", "--out", tiny_disk / "r.csv")
        leanrec(*arguments).refused(3, "space", str(tiny_disk))
        assert written(tiny_disk) == {"full"}


def fill(disk: Path, leave: int) -> None:
    """Leave about so many bytes free."""
    with contextlib.suppress(OSError), open(disk / "full", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    size = (disk / "full").stat().st_size
    os.truncate(disk / "full", max(size - leave, 0))
