"""What holds for every verb: exit codes, one sentence, JSON on the last line, and nothing heavy before it is needed."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leanrec.cli import doctor as doctor_verb
from leanrec.cli.main import VERBS, run
from leanrec.core.errors import BundleError, InputError, LeanrecError, MachineError, MissingExtra, PromiseError

from .conftest import Outcome, leanrec_process

Leanrec = Callable[..., Outcome]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(leanrec: Leanrec, verb: str) -> None:
    found = leanrec(verb, "--help")
    assert found.code == 0
    assert "--json" in found.out
    assert found.err == ""


def test_the_list_of_verbs_says_what_each_does(leanrec: Leanrec) -> None:
    found = leanrec("--help")
    for verb in VERBS:
        assert any(line.strip(" │").startswith(f"{verb}  ") for line in found.out.splitlines()), verb


def test_an_unknown_verb_is_met_with_the_nearest(leanrec: Leanrec) -> None:
    leanrec("evalute", "x").refused(2, "evalute", "evaluate")


def test_an_unknown_option_is_met_with_the_nearest(leanrec: Leanrec) -> None:
    leanrec("prepare", "x.csv", "--out", "y", "--user-column", "u").refused(2, "--user-column", "--user-col")


@pytest.mark.parametrize("arguments", [["prepare", "x.csv"], ["models", "surplus"], ["recommend"], ["train"]])
def test_a_wrong_command_line_ends_with_2(leanrec: Leanrec, arguments: list[str]) -> None:
    leanrec(*arguments).refused(2, "--help")


@pytest.mark.parametrize("time", ["soon", "-3min", "0s", "3 fortnights"])
def test_a_wrong_duration_is_explained(leanrec: Leanrec, time: str) -> None:
    leanrec("train", "popular", "--data", "d", "--out", "o", f"--time={time}").refused(2, "duration", "30min")


@pytest.mark.parametrize("cuts", ["0", "5,x", ","])
def test_wrong_list_lengths_are_explained(leanrec: Leanrec, cuts: str) -> None:
    leanrec("evaluate", "b", "--data", "d", "--k", cuts).refused(2, "5,10,20")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("the file is wrong"), 2),
        (BundleError("the bundle is wrong"), 2),
        (MachineError("no disk"), 3),
        (MissingExtra("train", "torch", "training"), 3),
        (PromiseError("not kept"), 4),
        (MemoryError(), 3),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_exit_code(
    leanrec: Leanrec, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("leanrec.jobs.doctor.diagnose", fail)
    found = leanrec("doctor")
    found.refused(code)
    if isinstance(error, LeanrecError):
        assert str(error) in found.err


def test_our_own_fault_leaves_a_report(leanrec: Leanrec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("something we never thought of")

    monkeypatch.setattr("leanrec.jobs.doctor.diagnose", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    leanrec("doctor").refused(1, "fault of leanrec", "something we never thought of", str(tmp_path))
    report = next(tmp_path.glob("leanrec-report-*.txt")).read_text()
    assert report.startswith("leanrec doctor\n")
    assert "Traceback" in report
    assert "numpy " in report


def test_json_is_one_object_on_the_last_line(leanrec: Leanrec) -> None:
    found = leanrec("models", "--json")
    assert [m["model"] for m in found.json["models"]][:2] == ["popular", "popular-recent"]
    assert len(found.out.splitlines()) == 1


def test_doctor_names_what_is_missing_and_the_command(leanrec: Leanrec, monkeypatch: pytest.MonkeyPatch) -> None:
    from leanrec.jobs import doctor

    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "torch" else real(name))
    found = leanrec("doctor")
    assert found.code == 0
    assert "pip install 'leanrec[train]'" in found.out
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "numpy" else real(name))
    assert leanrec("doctor", "--json").code == 3
    assert doctor_verb.__all__ == ["doctor"]


def test_a_closed_reader_is_no_error() -> None:
    command = f"{sys.executable} -m leanrec models | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_the_installed_command_and_the_module_agree() -> None:
    found = leanrec_process("doctor", "--json")
    assert found.code == 0
    assert found.json["healthy"] is True


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom leanrec.cli.main import run\nrun(['--help'])\n"
        "heavy = {'numpy', 'polars', 'numba', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_run_takes_the_command_line_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["leanrec", "models", "--json"])
    assert run() == 0
    assert json.loads(capsys.readouterr().out)["models"]


def test_doctor_foresees_the_memory_of_training(
    leanrec: Leanrec, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    found = leanrec("doctor", "sasrec", "--data", data_folder, "--set", "dim=32")
    assert found.code == 0, found.err
    assert "Adam's moments" in found.out
    leanrec("doctor", "sasrec").refused(2, "--data")
    leanrec("doctor", "content", "--data", data_folder).refused(2, "content")
    monkeypatch.setattr("leanrec.jobs.foresee.free_memory", lambda: 1000)
    found = leanrec("doctor", "sasrec", "--data", data_folder, "--json")
    assert (found.code, found.json["fits"]) == (3, False)
    assert "--set" in found.err
