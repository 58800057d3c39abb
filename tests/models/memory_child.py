"""Train as told and print, as JSON, the memory that was foreseen and the largest that was taken.

`python memory_child.py MODEL SETTINGS DATA RUN [STEPS]`. Memory is what cannot be given back under pressure: anonymous
pages, not those of mapped files. STEPS: stop after so many.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

from leanrec.data.dataset import Dataset
from leanrec.models import MODELS
from leanrec.models.base import FitOptions
from leanrec.training.task import NextItem


def anonymous() -> int:
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)[1]) << 10  # type: ignore[index]


def watch(peak: list[int]) -> None:
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)


def stop_after(steps: int) -> None:
    real = NextItem.step

    def step(self: NextItem, batch: Any) -> float:
        if self.steps >= steps:
            raise StopIteration
        return real(self, batch)

    NextItem.step = step  # type: ignore[method-assign]


def main(name: str, settings: str, folder: str, run: str, steps: str = "") -> None:
    data = Dataset.load(folder)
    model: Any = MODELS[name](**json.loads(settings))
    peak = [0]
    before = anonymous()
    need = model.memory(data)
    threading.Thread(target=watch, args=(peak,), daemon=True).start()
    if steps:
        stop_after(int(steps))
    try:
        model.fit_with(data, FitOptions(run=Path(run)))
    except (StopIteration, RuntimeError) as error:
        if not steps or not isinstance(error.__cause__ or error, StopIteration):
            raise
    lines = {line.what: line.bytes >> 20 for line in [*need.stays, *need.passing]}
    found = {"before": before, "foreseen": before + need.memory_bytes, "peak": peak[0], "lines": lines}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
