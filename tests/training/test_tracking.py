"""Trackers: what is logged can be read back with the service's own reader, and nothing leaves the machine unasked."""

from __future__ import annotations

import subprocess
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from leanrec.core.errors import ConfigError, MachineError
from leanrec.training.tracking import open_trackers

_LOG_BLOCK = 32768
Series = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


class TrackerContract(ABC):
    """What holds for every tracker."""

    name: ClassVar[str]
    package: ClassVar[str]

    @abstractmethod
    def read(self, run: Path) -> tuple[Series, dict[str, str]]:
        """Scalars and settings as the service itself reads them."""

    def test_what_is_logged_is_there(self, tmp_path: Path) -> None:
        pytest.importorskip(self.package)
        run = tmp_path / "run"
        with open_trackers([self.name], run, "esasrec") as tracker:
            tracker.params({"dim": 64, "lr": 0.003, "objective_options": {}})
            for step in (1, 2):
                tracker.scalars(step, {"search/loss": 3.5 / step, "search/lr": 0.25})
        scalars, params = self.read(run)
        assert scalars["search/loss"] == [(1, 3.5), (2, 1.75)]
        assert scalars["search/lr"] == [(1, 0.25), (2, 0.25)]
        assert {"dim": "64", "lr": "0.003"}.items() <= params.items()


class TestTensorBoard(TrackerContract):
    name = "tensorboard"
    package = "tensorboard"

    def read(self, run: Path) -> tuple[Series, dict[str, str]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run / "tensorboard"))
        events.Reload()
        text = events.Tensors("esasrec/text_summary")[0].tensor_proto.string_val[0].decode()
        cells = [line.strip("| ").split(" | ") for line in text.splitlines()]
        tags = events.Tags()["scalars"]
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}, dict(cells[2:])


class TestMLflow(TrackerContract):
    name = "mlflow"
    package = "mlflow"

    def read(self, run: Path) -> tuple[Series, dict[str, str]]:
        from mlflow.tracking import MlflowClient

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
            (kept,) = client.search_runs([client.get_experiment_by_name("leanrec").experiment_id])
            series = {n: [(m.step, m.value) for m in client.get_metric_history(kept.info.run_id, n)]
                      for n in kept.data.metrics}  # fmt: skip
        assert kept.info.status == "FINISHED"
        assert kept.data.tags["model"] == "esasrec"
        return series, kept.data.params

    def test_a_resumed_run_is_the_same_one(self, tmp_path: Path) -> None:
        pytest.importorskip("mlflow")
        for step in (1, 2):
            with open_trackers(["mlflow"], tmp_path, "esasrec") as tracker:
                tracker.params({"dim": 64})
                tracker.scalars(step, {"loss": step / 2})
        assert self.read(tmp_path)[0]["loss"] == [(1, 0.5), (2, 1.0)]

    def test_a_server_that_is_away_is_one_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("mlflow")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(MachineError, match="MLFLOW_TRACKING_URI"):
            open_trackers(["mlflow"], tmp_path, "esasrec")


class TestWeightsAndBiases(TrackerContract):
    name = "wandb"
    package = "wandb"

    def read(self, run: Path) -> tuple[Series, dict[str, str]]:
        import wandb
        from wandb.proto.wandb_internal_pb2 import Record

        wandb.teardown()  # its service writes the end of the file after `finish` has answered
        (file,) = run.glob("wandb/offline-run-*/*.wandb")
        series: Series = {}
        params: dict[str, str] = {}
        for record in map(Record.FromString, _log_records(file.read_bytes())):
            config = [*record.run.config.update, *record.config.update]
            params |= {(item.key or item.nested_key[0]): item.value_json for item in config}
            values = {(i.key or i.nested_key[0]): float(i.value_json) for i in record.history.item}
            for name in values.keys() - {"_step", "_runtime", "_timestamp"}:
                series.setdefault(name, []).append((int(values["_step"]), values[name]))
        return series, params


def _log_records(content: bytes) -> Iterator[bytes]:
    """The records of a W&B file: LevelDB's log format after seven bytes of its own."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if _LOG_BLOCK - at % _LOG_BLOCK < 7:
            at += _LOG_BLOCK - at % _LOG_BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            yield parts
            parts = b""


def test_a_run_without_a_folder_is_not_tracked() -> None:
    with open_trackers(["tensorboard", "mlflow"], None, "esasrec") as tracker:
        tracker.scalars(1, {"loss": 1.0})


def test_an_unknown_tracker_is_met_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tensorboard"):
        open_trackers(["tensorbord"], tmp_path, "esasrec")


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from pathlib import Path\nfrom leanrec.core.errors import MissingExtra\n"
        "from leanrec.training.tracking import open_trackers\n"
        "try:\n    open_trackers(['mlflow'], Path('.'), 'm')\n"
        "except MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert "pip install 'leanrec[track]'" in done.stdout, done.stderr
