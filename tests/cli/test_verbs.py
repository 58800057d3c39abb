"""Each verb does what it says, end to end on a tiny log; what one writes the next can read."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from leanrec.cli.main import run
from leanrec.runtime.recommender import Recommender

from .conftest import Outcome, leanrec_process

Leanrec = Callable[..., Outcome]
SMALL = ("--set", "dim=8", "--set", "epochs=2", "--set", "max_length=20", "--set", "negatives=8")


class TestPrepare:
    def test_the_report_counts_what_was_kept(self, leanrec: Leanrec, log_file: Path, tmp_path: Path) -> None:
        found = leanrec("prepare", log_file, "--out", tmp_path / "d", "--json")
        report = found.json["report"]
        assert (report["users"], report["items"]) == (60, 40)
        assert report["splits"] == {"train": report["events"] - 120, "valid": 60, "test": 60}

    def test_again_is_the_same_data_set(self, leanrec: Leanrec, log_file: Path, tmp_path: Path) -> None:
        first, again = (leanrec("prepare", log_file, "--out", tmp_path / "d", "--json").json for _ in range(2))
        assert first["fingerprint"] == again["fingerprint"]

    def test_a_split_in_time(self, leanrec: Leanrec, log_file: Path, tmp_path: Path) -> None:
        found = leanrec("prepare", log_file, "--out", tmp_path / "d", "--split", "time:0.8,0.1,0.1", "--json")
        assert found.code == 0
        assert set(found.json["report"]["splits"]) >= {"train", "valid", "test"}


class TestTrain:
    def test_a_run_says_what_it_was(self, popular_run: Path, data_folder: Path) -> None:
        record = json.loads((popular_run / "run.json").read_text())
        assert record["model"] == "popular"
        assert record["data"]["fingerprint"] == json.loads((data_folder / "dataset.json").read_text())["fingerprint"]
        assert record["versions"]["leanrec"]

    def test_settings_come_from_the_file_and_then_from_the_line(
        self, leanrec: Leanrec, data_folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "c.toml").write_text("days = 3\n")
        arguments = ["train", "popular-recent", "--data", data_folder, "--config", tmp_path / "c.toml"]
        assert leanrec(*arguments, "--out", tmp_path / "a").code == 0
        assert leanrec(*arguments, "--out", tmp_path / "b", "--set", "days=5").code == 0
        days = [json.loads((tmp_path / run / "run.json").read_text())["settings"]["days"] for run in "ab"]
        assert days == [3, 5]

    def test_defaults_are_printed_before_training(self, leanrec: Leanrec, data_folder: Path, tmp_path: Path) -> None:
        pytest.importorskip("torch")
        found = leanrec("train", "sasrec", "--data", data_folder, "--out", tmp_path / "run", *SMALL)
        assert found.code == 0, found.err
        assert found.err.index("dropout=") < found.err.index("epoch 1")


class TestEvaluate:
    def test_the_shape_that_is_promised(self, leanrec: Leanrec, popular_run: Path, data_folder: Path) -> None:
        found = leanrec("evaluate", popular_run, "--data", data_folder, "--k", "5,10", "--json").json
        first = found["results"][0]
        assert [r["model"] for r in found["results"]] == [str(popular_run), "popular", "popular-recent"]
        assert (first["on"], first["users"]) == ("test", 60)
        low, high = first["interval"]["ndcg@10"]
        assert low <= first["metrics"]["ndcg@10"] <= high
        assert {"recall@5", "recall@10", "ndcg@5"} <= set(first["metrics"])
        assert found["paired"]

    def test_a_table_of_its_own_answers_scores_the_same(
        self, leanrec: Leanrec, popular_run: Path, data_folder: Path, tmp_path: Path
    ) -> None:
        for ending in ("parquet", "csv", "jsonl", "arrow"):
            table = tmp_path / f"answers.{ending}"
            assert leanrec("recommend", popular_run, "--all", "--out", table).code == 0
            found = leanrec("evaluate", popular_run, table, "--data", data_folder, "--json").json["results"]
            assert found[0]["metrics"] == found[1]["metrics"], ending

    def test_seen_items_can_be_let_in(self, leanrec: Leanrec, popular_run: Path, data_folder: Path) -> None:
        arguments = ("evaluate", popular_run, "--data", data_folder, "--on", "valid", "--json")
        let_in = leanrec(*arguments, "--include-seen").json["results"][0]
        kept_out = leanrec(*arguments, "--exclude-seen").json["results"][0]
        assert let_in["metrics"] != kept_out["metrics"]


class TestRecommend:
    def test_a_user_by_title(self, leanrec: Leanrec, popular_run: Path) -> None:
        found = leanrec("recommend", popular_run, "--user", "u1", "--k", 3, "--json").json
        assert found["degraded"] is False
        assert [item["title"] for item in found["items"]] == [
            item["item_id"].replace("i", "Title ") for item in found["items"]
        ]
        assert "Title" in leanrec("recommend", popular_run, "--user", "u1").out

    def test_a_history_is_left_out_of_its_answer(self, leanrec: Leanrec, popular_run: Path) -> None:
        found = leanrec("recommend", popular_run, "--history", "i1, i2", "--k", 40, "--json").json
        assert len(found["items"]) == 38
        assert not {"i1", "i2"} & {item["item_id"] for item in found["items"]}

    def test_everybody(self, leanrec: Leanrec, popular_run: Path, tmp_path: Path) -> None:
        leanrec("recommend", popular_run, "--all", "--k", 2, "--out", tmp_path / "t.parquet")
        table = pl.read_parquet(tmp_path / "t.parquet")
        assert table.columns == ["user_id", "item_id", "score", "rank"]
        assert len(table) == 120

    @pytest.mark.parametrize(
        "arguments", ["--user u1 --history i1", "--all", "--user u1 --out x.csv", "--user u1 --k 0"]
    )
    def test_what_contradicts_itself_is_refused(self, leanrec: Leanrec, popular_run: Path, arguments: str) -> None:
        leanrec("recommend", popular_run, *arguments.split()).refused(2)

    def test_an_unknown_ending(self, leanrec: Leanrec, popular_run: Path, tmp_path: Path) -> None:
        leanrec("recommend", popular_run, "--all", "--out", tmp_path / "t.xlsx").refused(2, ".parquet")


class TestInterrupted:
    def start(self, data: Path, out: Path, *more: str) -> subprocess.Popen[str]:
        arguments = ["train", "sasrec", "--data", str(data), "--out", str(out), "--set", "epochs=12", *more]
        command = [sys.executable, "-m", "leanrec", *arguments, "--set", "patience=12", "--set", "dim=8"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for_checkpoint(self, out: Path, process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 120
        while not (out / "checkpoints" / "last.safetensors").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.01)

    def test_killed_and_resumed_is_as_if_never_interrupted(self, data_folder: Path, tmp_path: Path) -> None:
        pytest.importorskip("torch")
        whole = self.start(data_folder, tmp_path / "whole")
        assert whole.wait(200) == 0, whole.communicate()[1]
        cut = self.start(data_folder, tmp_path / "cut")
        self.wait_for_checkpoint(tmp_path / "cut", cut)
        cut.kill()
        assert cut.wait() == -signal.SIGKILL
        cut.communicate()
        again = self.start(data_folder, tmp_path / "cut", "--resume")
        assert again.wait(200) == 0, again.communicate()[1]
        assert "resuming" in again.communicate()[1]
        whole.communicate()
        assert Recommender.load(tmp_path / "cut").id == Recommender.load(tmp_path / "whole").id

    def test_ctrl_c_ends_with_130_and_says_how_to_go_on(self, data_folder: Path, tmp_path: Path) -> None:
        pytest.importorskip("torch")
        process = self.start(data_folder, tmp_path / "run")
        self.wait_for_checkpoint(tmp_path / "run", process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert err.rstrip().endswith("leanrec: interrupted; run it again with --resume to go on")
        assert "Traceback" not in err


@pytest.fixture(scope="module")
def quick(log_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The quickstart on a tiny log, in a process of its own."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("quick")
    return folder, leanrec_process("quickstart", "--data", log_file, "--out", folder, "--json", *SMALL)


class TestQuickstart:
    def test_it_measures_shrinks_and_recommends(self, quick: tuple[Path, Outcome]) -> None:
        folder, found = quick
        assert found.code == 0, found.err
        said = found.json
        assert {"prepare", "train esasrec", "train item-knn", "evaluate", "compress to int8"} <= set(said["seconds"])
        models = [result["model"] for result in said["evaluation"]["results"]]
        assert models == ["esasrec", "popular", "popular-recent", "item-knn"]
        assert len(said["history"]) == len(said["recommended"]) == 5
        assert not set(said["history"]) & set(said["recommended"])
        assert said["compression"]["before"]["bytes_scanned"] > said["compression"]["after"]["bytes_scanned"]
        assert str(folder / "esasrec-int8") in said["serve"]
        assert "curl" in said["ask"]

    def test_what_it_wrote_works_with_the_other_verbs(self, quick: tuple[Path, Outcome], leanrec: Leanrec) -> None:
        folder, _ = quick
        lean = folder / "esasrec-int8"
        again = leanrec("verify", lean, "--against", folder / "esasrec", "--data", folder / "data", "--json")
        assert again.code == 0, again.err
        assert again.json["certificate"]["users"] > 0
        full, small = (leanrec("recommend", b, "--user", "u1", "--json").json for b in (folder / "esasrec", lean))
        assert [i["item_id"] for i in full["items"]] == [i["item_id"] for i in small["items"]]

    def test_a_certificate_for_another_bundle_is_refused(self, quick: tuple[Path, Outcome], leanrec: Leanrec) -> None:
        folder, _ = quick
        arguments = ("verify", folder / "esasrec-int8", "--against", folder / "popular", "--data", folder / "data")
        leanrec(*arguments).refused(2, "certificate")

    def test_compressing_what_has_nothing_to_compress(
        self, leanrec: Leanrec, popular_run: Path, data_folder: Path, tmp_path: Path
    ) -> None:
        arguments = ("compress", popular_run, "--data", data_folder, "--out", tmp_path / "lean")
        leanrec(*arguments).refused(2, "popular")
        leanrec(*arguments, "--plan", "int7").refused(2, "int7", "'int8'")
        assert not (tmp_path / "lean").exists()

    def test_the_server_it_names_answers_the_question_it_names(self, quick: tuple[Path, Outcome]) -> None:
        folder, found = quick
        command = [sys.executable, "-m", "leanrec", "serve", str(folder / "esasrec-int8"), "--port", "0", "--json"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            address = line.split(" at ")[1].split()[0]
            body = found.json["ask"].split("-d '")[1].rstrip("'")
            request = urllib.request.Request(
                f"{address}/v1/recommend", body.encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as reply:
                answer = json.load(reply)
            assert [item.get("title", item["item_id"]) for item in answer["items"]] == found.json["recommended"]
        finally:
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=60)
        assert server.returncode == 0, err
        assert json.loads(out.splitlines()[-1])["status"] == "stopped"


def test_an_unknown_public_data_set_is_met_with_the_nearest(leanrec: Leanrec, tmp_path: Path) -> None:
    leanrec("quickstart", "--data", "ml-100", "--out", tmp_path / "q").refused(2, "ml-100")


def test_run_returns_what_the_process_would() -> None:
    assert run(["models"]) == 0
