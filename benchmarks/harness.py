"""What every benchmark shares: taking turns with the peer, paired ratios with an interval, the record of the machine.

A ratio compares two programs that took turns on the same machine with the same threads: absolute times of different
runs are not comparable. The figure is the median over rounds of the paired ratios; its interval is a percentile
bootstrap over rounds (a single round has the point as its interval).
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from leanrec.core.console import format_table
from leanrec.core.machine import cpu_model

__all__ = ["LONG", "ROOT", "THREADS", "Result", "bench_data", "finish", "paired_ratio", "take_turns"]

ROOT = Path(__file__).resolve().parents[1]
LONG = os.environ.get("LONG") == "1"
THREADS = min(int(os.environ.get("BENCH_THREADS", "2")), len(os.sched_getaffinity(0)))
_HEADER = "| date | id | ratio | interval | gate | figures | commit | machine |\n|---|---|---|---|---|---|---|---|\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a benchmark found: its ratio with interval, whether its gate holds, and the table behind them."""

    id: str
    ratio: float
    interval: tuple[float, float]
    gate: str
    """ok, failed or inconclusive."""
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: str
    """The row's figures in a few words, for the scoreboard."""
    notes: Sequence[str] = field(default_factory=tuple)


def bench_data(name: str) -> Path:
    """The folder of one of the data sets for measurement; the benchmark ends here when it is not on this machine."""
    folder = Path(os.environ.get("LEANREC_BENCH_DATA", ROOT.parent / "shared" / "data")) / name
    if not (folder / "interactions.parquet").exists():
        raise SystemExit(f"{folder} is not there: set LEANREC_BENCH_DATA to the folder that holds {name}/")
    return folder


def take_turns(
    ours: Callable[[int], float], peer: Callable[[int], float], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of both, A B A B ..., each called with the number of its round."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        times[0].append(ours(number))
        times[1].append(peer(number))
    return times


def paired_ratio(
    ours: Sequence[float], peer: Sequence[float], *, draws: int = 10_000
) -> tuple[float, tuple[float, float]]:
    """The median of peer / ours by round, and its 95 % bootstrap interval: how many times faster ours is."""
    ratios = np.asarray(peer, dtype=np.float64) / np.asarray(ours, dtype=np.float64)
    picked = np.random.default_rng(0).integers(0, len(ratios), (draws, len(ratios)))
    low, high = np.quantile(np.median(ratios[picked], axis=1), [0.025, 0.975])
    return float(np.median(ratios)), (float(low), float(high))


def commit() -> str:
    """The commit that was measured, marked when the tree differs from it."""
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if name.returncode:
        return "no git"
    changed = subprocess.run(["git", "status", "--porcelain", "--", "src"], cwd=ROOT, capture_output=True, text=True)
    return name.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def machine() -> str:
    """Processor, threads used, and the torch that was measured."""
    return f"{cpu_model()}, {THREADS} threads, torch {importlib.metadata.version('torch')}"


def finish(result: Result) -> None:
    """Print the table and the closing line, and add the row to docs/scoreboard.md."""
    low, high = result.interval
    line = f"{result.id} ratio={result.ratio:.3g} interval=[{low:.3g},{high:.3g}] gate={result.gate}"
    print(format_table(result.headers, result.rows))
    for note in result.notes:
        print(note)
    print(f"{machine()}, commit {commit()}")
    _add_row(
        f"| {datetime.date.today()} | {result.id} | {result.ratio:.3g} | [{low:.3g}, {high:.3g}] | {result.gate} "
        f"| {result.figures} | {commit()} | {machine()} |\n"
    )
    print(line, flush=True)


def _add_row(row: str) -> None:
    board = ROOT / "docs" / "scoreboard.md"
    text = board.read_text() if board.exists() else f"# Scoreboard\n\n{_HEADER}"
    board.write_text(text.rstrip("\n") + "\n" + row)
