"""Battery row 1: a process killed under load loses nothing that it acknowledged, and retries double nothing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from leanrec.events import Event
from leanrec.events.sqlite import SqliteStore


def kill_under_load(path: Path, name: str, acknowledgements: int) -> tuple[set[str], set[str]]:
    """Ids (sent, acknowledged) by a process that was killed after so many acknowledged batches."""
    sent: set[str] = set()
    done: set[str] = set()
    command = [sys.executable, str(Path(__file__).with_name("appender.py")), str(path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        seen = 0
        for line in process.stdout:
            kind, *ids = line.split()
            (done if kind == "done" else sent).update(ids)
            seen += kind == "done"
            if seen == acknowledgements:
                process.send_signal(signal.SIGKILL)  # and read on: what it still acknowledged counts
        watchdog.cancel()
    assert seen >= acknowledgements, "the process ended before it was killed"
    return sent, done


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_killed_processes_lose_nothing_acknowledged(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "events.sqlite"
    rng = random.Random(7)
    sent: set[str] = set()
    done: set[str] = set()
    for kill in range(kills):
        sent_now, done_now = kill_under_load(path, f"r{kill}", rng.randint(1, 120))
        sent |= sent_now
        done |= done_now
        store = SqliteStore(path)
        stored = [event.event_id for event in store.scan()]
        store.close()
        assert done <= set(stored), "acknowledged events are lost"
        assert len(stored) == len(set(stored)), "an event is stored twice"
        assert set(stored) <= sent, "events appear from nowhere"

    # The client retries all it sent, acknowledged or not.
    store = SqliteStore(path)
    before = {event.event_id for event in store.scan()}
    retry = [Event(event_id=i, user_id="u", item_id=i, timestamp=0.0) for i in sorted(sent)]
    assert store.append(retry) == (len(sent - before), len(before))
    assert sorted(event.event_id for event in store.scan()) == sorted(sent)
    store.close()
