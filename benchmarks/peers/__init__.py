"""Other libraries, each in its own pinned environment under .peers/, so that none of them meets leanrec's packages."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import ROOT, THREADS
from benchmarks.limits import Group

__all__ = ["peer_python", "run_timed"]

_HERE = Path(__file__).parent


def peer_python(name: str) -> Path:
    """The interpreter of the environment that `peers/NAME.txt` pins, installed on first use."""
    pins = _HERE / f"{name}.txt"
    folder = ROOT / ".peers" / name
    python, stamp = folder / "bin" / "python", folder / ".pins"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {name} into {folder} ...", file=sys.stderr)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(pins)], check=True)
        stamp.write_text(wanted)
    return python


def run_timed(command: Sequence[str], *, within: Group | None = None, **environment: str) -> list[str]:
    """Run a program with the agreed number of threads, in a control group if given; the lines of its output."""
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    done = subprocess.run(
        list(command),
        cwd=ROOT,
        env={**os.environ, **threads, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=within.enter if within else None,
    )
    return done.stdout.splitlines()
