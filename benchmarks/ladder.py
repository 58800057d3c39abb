"""Ladders for docs/ladders.md: what each step bought and cost on three models, every row measured on this machine.

`python -m benchmarks.ladder [NAME...]`: Beauty and Gowalla as C4 trains them, and the transformer of the 1M synthetic
run. A budget of 1 % (5 % on Beauty, whose users cannot decide 1 %) names the plan; where no plan is certain to keep it,
the ladder of steps that pay stands there alone, and what the search said. Other sections of the file stay.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

from benchmarks import c4
from benchmarks.c3 import Peer
from benchmarks.harness import ROOT, commit, machine
from benchmarks.trained import trained
from leanrec.compression.budget import Budget
from leanrec.compression.compress import asked_histories
from leanrec.compression.ladder import Rung, ladder_cells
from leanrec.compression.measure import robust_p99
from leanrec.compression.optimise import SearchOptions, optimise
from leanrec.core.errors import PromiseError
from leanrec.core.machine import human
from leanrec.core.smaps import own_memory
from leanrec.data.dataset import Dataset
from leanrec.jobs.bench import BenchJob, bench_ladder
from leanrec.runtime.engines.transformer import TransformerEngine
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

BOARD = ROOT / "docs" / "ladders.md"
_HEAD = """# Ladders

What each step of compression bought and cost, each row measured in a process of its own by
`python -m benchmarks.ladder`. The first row of a network is the same network in torch, eager, float32: encoder, product
with the table, seen items masked, topk, one history at a time, on two threads. The column named after a metric is the
change of that metric on users that tune: minus is worse. What is certified, on users that nothing was tuned on, stands
below each table. A step that does not pay on this machine says no; dropped is one that could not be applied.
"""
LEFT_OUT = ("distil", "quantise-aware")
MILLION, LIMIT = ("prune", "items", "share-items", "int8-items", "index", "engine", "serving"), 1200.0
"""Steps and seconds for the million, where a step takes about a minute for the users that tune."""
_EAGER_SECONDS = 5.0


def made(name: str) -> tuple[Recommender, Dataset, Path, Budget]:
    """Model, data, bundle, and what is asked of it."""
    if name in c4.CASES:
        case = c4.CASES[name]
        model, data = c4.prepared(name, case)
        loss = 0.01 if name == "gowalla" else 0.05
        return model, data, c4.CACHE / name / "bundle", Budget(max_quality_loss=loss, metric=case.metric)
    run = trained("1m-64")
    return Recommender.load(run.run), run.dataset(), run.run / "bundle", Budget(max_quality_loss=0.01)


def ladder(name: str) -> str:
    """The section of one model."""
    from leanrec.compression import STEPS

    model, data, bundle, budget = made(name)
    steps = tuple(step for step in STEPS if step not in LEFT_OUT) if name in c4.CASES else MILLION
    with tempfile.TemporaryDirectory(prefix="ladder-") as scratch:
        options = SearchOptions(
            trials=24, survivors=4, steps=steps, measure_seconds=1.0, learn_seconds=15.0,
            seconds=None if name in c4.CASES else LIMIT,
        )  # fmt: skip
        try:
            found = optimise(bundle, data, budget, out=Path(scratch) / "lean", options=options)
        except PromiseError as error:
            data.save(Path(scratch) / "data")
            job = BenchJob(bundle=str(bundle), data=f"{scratch}/data", metric=budget.metric, steps=steps, seconds=1.0)
            both = bench_ladder(job)
            rungs, said = [*both.ladder, *both.singles[1:]], [str(error)]
        else:
            assert found.quality is not None
            rungs = [
                *found.ladder,
                *(one for one in found.singles[1:] if one.plan not in [o.plan for o in found.ladder]),
            ]
            said = [found.sentence, found.quality.certificate.verdict(budget.max_quality_loss)]
    about = f"{model.source.name}, {len(model.items):,} items, {data.name}; {machine()}, commit {commit()}."
    eager = [_eager(name)] if isinstance(getattr(model.source, "engine", None), TransformerEngine) else []
    return f"## {name}\n\n{about}\n\n{_table(rungs, budget.metric, eager)}\n\n" + "\n\n".join(said) + "\n"


def _eager(name: str) -> list[str]:
    """The row of torch, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ladder", "eager", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    p50, p99, rate, memory = json.loads(done.stdout.splitlines()[-1])
    return ["torch, eager", "", f"{p50:.3f}", f"{p99:.3f}", f"{rate:,.0f}", human(memory), "", "", ""]


def _measure_eager(name: str) -> None:
    model, data, _, _ = made(name)
    assert isinstance(model.source, EmbeddingSource)
    engine = model.source.engine
    assert isinstance(engine, TransformerEngine)
    asked = asked_histories(model, data, users="tune").last(engine.shape.max_length)
    peer, latencies = Peer(model), []
    begun = time.perf_counter()
    for number in range(len(asked)):
        start = time.perf_counter()
        peer.answer(asked.slice(number, number + 1), 1)
        latencies.append(time.perf_counter() - start)
        if start - begun > _EAGER_SECONDS:
            break
    latencies = latencies[len(latencies) // 5 :]  # warm
    memory = own_memory()["Pss"]
    print(json.dumps([1e3 * median(latencies), 1e3 * robust_p99(latencies), 1 / mean(latencies), memory]))


def _table(rungs: Sequence[Rung], metric: str, first: Sequence[list[str]]) -> str:
    headers, rows = ladder_cells(rungs, metric, "USD")
    rows = [*first, *rows]
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(names: Sequence[str]) -> None:
    """Measure these and put them into the file."""
    old = BOARD.read_text() if BOARD.exists() else ""
    sections = {part.partition("\n")[0]: f"## {part}" for part in old.split("\n## ")[1:]}
    for name in names:
        sections[name] = ladder(name)
        BOARD.write_text(_HEAD + "".join(f"\n{section.strip()}\n" for section in sections.values()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["eager"]:
        _measure_eager(sys.argv[2])
        sys.exit()
    main(sys.argv[1:] or ["gowalla", "beauty", "1m-64"])
