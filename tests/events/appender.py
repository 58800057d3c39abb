"""A process that appends events from many threads until it is killed, and prints each event once it is acknowledged."""

from __future__ import annotations

import os
import sys
import threading

from leanrec.events import Event
from leanrec.events.sqlite import SqliteStore

THREADS, BATCH = 6, 3


def main(path: str, round_: str) -> None:
    store = SqliteStore(path)

    def client(number: int) -> None:
        step = 0
        while True:
            ids = [f"{round_}-{number}-{step}-{n}" for n in range(BATCH)]
            # Sent is written before the call, acknowledged after it: the parent judges by these two lists alone.
            os.write(1, f"sent {' '.join(ids)}\n".encode())
            store.append([Event(event_id=i, user_id=f"u{number}", item_id=i, timestamp=float(step)) for i in ids])
            os.write(1, f"done {' '.join(ids)}\n".encode())
            step += 1

    for number in range(THREADS):
        threading.Thread(target=client, args=(number,)).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
