"""Where the time of training goes: seconds and bytes by stage, the share of the arithmetic floor, and a trace.

The code that trains names its stages (`staged`, `stage`, `waited`, `moved`); without a profile under way that costs a
comparison. A stage's time is its own: what a stage inside it takes is counted there.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
import torch
from torch.utils.flop_counter import FlopCounterMode

from leanrec.core.console import format_table, say
from leanrec.core.files import atomic_write
from leanrec.core.machine import human

__all__ = ["Profile", "Report", "StageReport", "moved", "profiling", "stage", "staged", "waited"]

_COUNTED_STEP = 1
_TRACED_STEPS = range(2, 5)
"""Steps of a trace; what came before and the trace itself are left out of the figures when there are more steps."""
_PRODUCT = 1536
_PRODUCTS = 5

P = ParamSpec("P")
T = TypeVar("T")


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """One stage over all measured steps. bytes: read and written by it where it says so, else None."""

    name: str
    seconds: float
    share: float
    calls: int
    bytes: int | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What RUN/profile/profile.json holds."""

    rank: int
    steps: int
    seconds: float
    """Of all stages together."""
    step_seconds: float
    """Mean of a step, waiting for its batch included."""
    step_flops: int
    """Of the matrix products of one step, forward and backward, as torch counts them; compiled loops are not seen."""
    gemm_flops_per_second: float
    """Of a large matrix product on the same threads, in the precision that the network trains in."""
    share_of_floor: float
    """The least time those products could take, over the time of a step."""
    stages: list[StageReport]

    def __str__(self) -> str:
        rows = [
            (
                s.name,
                f"{s.seconds:.2f}",
                f"{100 * s.share:.1f} %",
                f"{1e3 * s.seconds / s.calls:.2f}",
                f"{s.calls}",
                "" if s.bytes is None else human(s.bytes / s.calls),
            )
            for s in self.stages
        ]
        return "\n".join(
            [
                format_table(("stage", "seconds", "share", "ms a call", "calls", "bytes a call"), rows),
                f"{self.steps} steps of {1e3 * self.step_seconds:.1f} ms: {self.step_flops / 1e9:.2f} GFLOP of matrix "
                f"products each, at {self.gemm_flops_per_second / 1e9:.0f} GFLOP/s at best: "
                f"{self.share_of_floor:.2f} of the floor",
            ]
        )


class Profile:
    """Takes the times of one process (`rank` of several) and writes them to `folder`."""

    def __init__(self, folder: Path, *, rank: int, workers: int, dtype: torch.dtype) -> None:
        self._folder, self._rank, self._workers, self._dtype = folder, rank, workers, dtype
        self._seconds: dict[str, float] = {}
        self._calls: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._under_way: list[str] = []
        self._since = 0.0
        self._step = self._measured = self._flops = 0
        self._step_seconds = self._step_began = 0.0
        self._counter: FlopCounterMode | None = None
        self._tracer: Any = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._charge()
        self._under_way.append(name)
        self._calls[name] = self._calls.get(name, 0) + 1
        try:
            with torch.profiler.record_function(name) if self._tracer else nullcontext():
                yield
        finally:
            self._charge()
            self._under_way.pop()

    def _charge(self) -> None:
        """What passed since the last change of stage belongs to the innermost one under way."""
        now = time.perf_counter()
        if self._under_way:
            name = self._under_way[-1]
            self._seconds[name] = self._seconds.get(name, 0.0) + now - self._since
        self._since = now

    def moved(self, count: int) -> None:
        if self._under_way:
            self._bytes[self._under_way[-1]] = self._bytes.get(self._under_way[-1], 0) + count

    def before_step(self) -> None:
        if self._step == _TRACED_STEPS.stop:
            self._forget()
        if self._step == _COUNTED_STEP:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()  # type: ignore[no-untyped-call]
        elif self._step == _TRACED_STEPS.start:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._tracer = torch.profiler.profile(activities=activities)
            self._tracer.start()
            place = {"rank": self._rank, "world_size": self._workers}
            self._tracer.add_metadata_json("distributedInfo", json.dumps(place))

    def after_step(self, seconds: float) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._flops, self._counter = self._counter.get_total_flops(), None
        self._step += 1
        self._measured += 1
        self._step_seconds += seconds
        if self._step == _TRACED_STEPS.stop:
            self._write_trace()

    def _forget(self) -> None:
        """Measure from here on: the loops are compiled, and nothing is watched by torch."""
        self._seconds.clear()
        self._calls.clear()
        self._bytes.clear()
        self._measured, self._step_seconds = 0, 0.0

    def _write_trace(self) -> None:
        tracer, self._tracer = self._tracer, None
        tracer.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        tracer.export_chrome_trace(str(self._folder / f"rank{self._rank}.json"))

    def report(self) -> Report:
        """Figures so far; the rate of the floor is measured now."""
        total, steps = sum(self._seconds.values()), max(self._measured, 1)
        rate, step_seconds = _gemm_rate(self._dtype), self._step_seconds / steps
        return Report(
            rank=self._rank,
            steps=self._measured,
            seconds=total,
            step_seconds=step_seconds,
            step_flops=self._flops,
            gemm_flops_per_second=rate,
            share_of_floor=self._flops / rate / step_seconds if step_seconds else 0.0,
            stages=[
                StageReport(
                    name=name, seconds=seconds, share=seconds / total, calls=self._calls[name],
                    bytes=self._bytes.get(name),
                )
                for name, seconds in sorted(self._seconds.items(), key=lambda entry: -entry[1])
                if name in self._calls
            ],
        )  # fmt: skip

    def close(self) -> None:
        """Write profile.json (of every rank its own) and, from the first rank, print the table."""
        if self._tracer is not None:
            self._write_trace()
        report = self.report()
        name = "profile.json" if self._rank == 0 else f"profile{self._rank}.json"
        atomic_write(self._folder / name, msgspec.json.format(msgspec.json.encode(report), indent=1))
        if self._rank == 0:
            say(f"{report}\ntraces for Perfetto or chrome://tracing in {self._folder}")


def _gemm_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second of the best of a few large products."""
    a, b = (torch.randn(_PRODUCT, _PRODUCT, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(_PRODUCTS):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * _PRODUCT**3 / best


_active: Profile | None = None


@contextmanager
def profiling(folder: Path | None, *, rank: int, workers: int, precision: str) -> Iterator[None]:
    """Profile what is done meanwhile in this process into `folder`; None does nothing."""
    global _active
    if folder is None:
        yield
        return
    assert _active is None, "one profile at a time"
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)
    profile = _active = Profile(folder, rank=rank, workers=workers, dtype=dtype)
    try:
        yield
    finally:
        _active = None
    profile.close()


def stage(name: str) -> AbstractContextManager[None]:
    """What is done meanwhile is this stage."""
    return nullcontext() if _active is None else _active.stage(name)


def staged(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Every call of the function is this stage."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if _active is None:
                return function(*args, **kwargs)
            with _active.stage(name):
                return function(*args, **kwargs)

        return call

    return decorate


def waited(batches: Iterable[T]) -> Iterator[T]:
    """The same batches; the time until each is there is a stage, and what is done with it is a step."""
    if _active is None:
        yield from batches
        return
    profile, iterator = _active, iter(batches)
    while True:
        began = time.perf_counter()
        with profile.stage("wait for a batch"):
            batch = next(iterator, None)
        if batch is None:
            return
        profile.before_step()
        yield batch
        profile.after_step(time.perf_counter() - began)


def moved(count: int) -> None:
    """The stage under way has read or written so many bytes."""
    if _active is not None:
        _active.moved(count)
