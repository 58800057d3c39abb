"""T5: a raw log of 10M events to sequences that train, against the pandas steps that RecTools takes; then 100M alone.

The log: `data.synthetic`, a million users, 200,000 items, popularity by Zipf 1.05, all in order of time, as Parquet;
once with whole numbers for ids, once with text. Ours is `prepare` to a saved data set (all checks, the report and the
disk included); the peer keeps its sequences in memory. Each run in a fresh process, clocks start after imports, both
with the compiled code or bytecode of an earlier run on the disk. The fewest steps that pandas could take stand in the
table too. Growth is measured on the log as it is generated, users and items as many at every size, in `.cache/`.

ratio: the smaller of the two rows. Gate: identical sequences; the anonymous memory of the process at 100M events is at
most 1.3 times that at 10M (mapped files are page cache, which the system takes back, and are not counted).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from benchmarks.harness import LONG, ROOT, THREADS, Result, paired_ratio, take_turns
from benchmarks.peers import run_timed
from leanrec.data.synthetic import generate

PEER = Path(__file__).parent / "peers" / "pandas_prepare.py"
MILLION = 1_000_000
EVENTS = int(float(os.environ.get("T5_EVENTS", "10")) * MILLION)
SIZES = (EVENTS, 3 * EVENTS, 10 * EVENTS)
FLAT = 1.3


@dataclass(frozen=True, slots=True)
class Run:
    """What one preparation took: seconds, bytes of anonymous memory at its highest, and what came out."""

    seconds: float
    anonymous: int
    digest: str


def run() -> Result:
    """Both kinds of ids by turns, then growth."""
    folder = ROOT / ".cache" / "t5"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        compared = [_compare(folder, text) for text in (False, True)]
        growth = [_grow(folder, events) for events in SIZES]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    flat = growth[-1].anonymous <= FLAT * growth[0].anonymous
    same = all(entry.same for entry in compared)
    least = min(compared, key=lambda entry: entry.ratio[0])
    rows = [row for entry in compared for row in entry.rows]
    for events, found in zip(SIZES, growth, strict=True):
        rows.append(_row(f"{events / 1e6:g}M alone, as generated", "leanrec", found, events))
    return Result(
        id="T5", ratio=least.ratio[0], interval=least.ratio[1], gate="ok" if same and flat else "failed",
        headers=("log", "program", "s", "ns an event", "peak anonymous MB", "times ours"), rows=rows,
        figures="; ".join([entry.figures for entry in compared] + [_growth_figures(growth)]),
        notes=(f"identical sequences: {same}; flat memory: {flat}",),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    ratio: tuple[float, tuple[float, float]]
    same: bool
    rows: list[tuple[str, ...]]
    figures: str


def _compare(folder: Path, text: bool) -> Compared:
    name = "text ids" if text else "whole numbers"
    log = _log_in_time(folder, text)
    _ours(log, folder)  # compiles what the cache lacks
    runs: dict[str, list[Run]] = {"ours": [], "rectools": []}

    def ours(_: int) -> float:
        runs["ours"].append(_ours(log, folder))
        return runs["ours"][-1].seconds

    def peer(_: int) -> float:
        runs["rectools"].append(_peer("rectools", log))
        return runs["rectools"][-1].seconds

    ratio = paired_ratio(*take_turns(ours, peer, rounds=5 if LONG else 3))
    lean = _peer("lean", log)
    log.unlink()
    own, rectools = (sorted(found, key=lambda run: run.seconds)[len(found) // 2] for found in runs.values())
    rows = [
        _row(name, "leanrec", own, EVENTS),
        _row(name, "pandas as RecTools", rectools, EVENTS, ratio[0]),
        _row(name, "pandas, fewest steps", lean, EVENTS, lean.seconds / own.seconds),
    ]
    return Compared(
        ratio,
        len({found.digest for found in [*runs["ours"], *runs["rectools"], lean]}) == 1,
        rows,
        f"{EVENTS / 1e6:g}M, {name}: {own.seconds:.2f} s against {rectools.seconds:.1f} "
        f"(fewest steps {lean.seconds:.1f})",
    )


def _row(log: str, program: str, found: Run, events: int, ratio: float | None = None) -> tuple[str, ...]:
    memory = f"{found.anonymous / 1e6:.0f}" if found.anonymous else ""
    times = "" if ratio is None else f"{ratio:.1f}"
    return (log, program, f"{found.seconds:.2f}", f"{1e9 * found.seconds / events:.0f}", memory, times)


def _growth_figures(growth: list[Run]) -> str:
    first, last = growth[0], growth[-1]
    slower = last.seconds / SIZES[-1] / (first.seconds / SIZES[0])
    return (
        f"{SIZES[-1] / 1e6:g}M alone: {last.seconds:.1f} s, {slower:.2f} times the time an event of "
        f"{SIZES[0] / 1e6:g}M, anonymous memory {last.anonymous / 1e6:.0f} MB against {first.anonymous / 1e6:.0f} MB"
    )


def _world(events: int) -> dict[str, int]:
    return {"users": max(EVENTS // 10, 1), "items": max(EVENTS // 50, 1), "events": events}


def _log_in_time(folder: Path, text: bool) -> Path:
    """The log in order of time over all users, as logs are."""
    path = folder / f"log-{text}.parquet"
    generate(path, **_world(EVENTS), text_ids=text)
    pl.read_parquet(path).sort("timestamp", maintain_order=True).write_parquet(path, row_group_size=MILLION)
    return path


def _grow(folder: Path, events: int) -> Run:
    log = folder / "growth.parquet"
    generate(log, **_world(events))
    found = _ours(log, folder, digest=False)
    log.unlink()
    return found


def _peer(steps: str, log: Path) -> Run:
    answer = json.loads(run_timed([sys.executable, str(PEER), steps, str(log)])[-1])
    return Run(answer["seconds"], 0, answer["digest"])


def _ours(log: Path, folder: Path, digest: bool = True) -> Run:
    """Prepare in a fresh process, looking at its memory from outside (where a digest is made, that is in it)."""
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")}
    out = folder / "data"
    command = [sys.executable, "-m", "benchmarks.t5", str(log), str(out), *["digest"][: int(digest)]]
    highest = 0
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True) as child:
        while child.poll() is None:
            highest = max(highest, _anonymous(child.pid))
            time.sleep(0.02)
        assert child.stdout is not None
        lines = child.stdout.read().splitlines()
    assert child.returncode == 0, "the preparation failed"
    shutil.rmtree(out)
    answer = json.loads(lines[-1])
    return Run(answer["seconds"], highest, answer["digest"])


def _anonymous(process: int) -> int:
    """Bytes of anonymous memory that the process has now."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def _child(log: str, out: str, *digested: str) -> None:
    import hashlib

    from leanrec.data.prepare import prepare
    from leanrec.data.split import TEST, TRAIN, VALID

    start = time.perf_counter()
    data = prepare(log, out=out)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256()
    if digested:
        for label in (TRAIN, VALID, TEST):
            part = data.interactions.items.where(data.interactions.split == label)
            digest.update(part.lengths.tobytes())
            digest.update(part.values.tobytes())
    print(json.dumps({"seconds": seconds, "digest": digest.hexdigest()}))


if __name__ == "__main__":
    _child(*sys.argv[1:])
