"""One engine thread answers whatever has gathered; what could not be answered in time is refused at once."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from leanrec.core.nouns import Ranking, Request
from leanrec.runtime.recommender import Recommender
from leanrec.serving.config import ServingConfig
from leanrec.serving.metrics import Metrics
from leanrec.serving.problems import Problem
from leanrec.serving.state import UserState

__all__ = ["Batcher"]

T = TypeVar("T")
_SMOOTHING = 0.1
_IDLE_QUESTIONS = 8
"""With no more than these waiting, a question is taken whatever the estimate says, which keeps the estimate fresh."""


@dataclass(frozen=True, slots=True)
class _Job:
    """Questions to answer together with others, or a call that needs the engine for itself."""

    work: Sequence[Request] | Callable[[], Any]
    units: int
    due: float
    future: asyncio.Future[Any]


class Batcher:
    """The queue in front of the engine thread. Its coroutines belong to one event loop."""

    def __init__(self, recommender: Recommender, state: UserState, config: ServingConfig, metrics: Metrics) -> None:
        self._recommender, self._state, self._config, self._metrics = recommender, state, config, metrics
        self._answering = config.answering(recommender.answering)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._loop = asyncio.get_running_loop()
        self._seconds_per_unit = 0.0
        self.pending = 0
        """Questions accepted and not yet answered."""
        self._thread.start()

    async def answer(self, requests: Sequence[Request]) -> list[Ranking]:
        """One ranking per request; a user's history is what is known when the engine gets to it."""
        answers: list[Ranking] = await self._submit(requests, len(requests))
        for ranking in answers:
            self._metrics.answers.add("true" if ranking.degraded else "false")
        return answers

    async def call(self, function: Callable[[], T]) -> T:
        """The result of a function that runs in the engine thread."""
        result: T = await self._submit(function, 1)
        return result

    def resolve(self, request: Request) -> Request:
        """The request with the user's history filled in; for the engine thread only."""
        if request.history is not None:
            return request
        assert request.user_id is not None
        return replace(request, history=self._state.history(request.user_id), resolved=True)

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    async def _submit(self, work: Sequence[Request] | Callable[[], Any], units: int) -> Any:
        self._admit(units)
        future: asyncio.Future[Any] = self._loop.create_future()
        self.pending += units
        self._queue.put(_Job(work, units, time.monotonic() + self._config.deadline_seconds, future))
        return await future

    def _admit(self, units: int) -> None:
        wait = self.pending * self._seconds_per_unit
        if self.pending and self.pending + units > self._config.max_queue:
            self._metrics.refused.add("queue")
        elif self.pending > _IDLE_QUESTIONS and wait > self._config.deadline_seconds:
            self._metrics.refused.add("estimate")
        else:
            return
        raise Problem.overloaded(max(1, math.ceil(wait)))

    # ---- the engine thread

    def _work(self) -> None:
        self._recommender.settle(self._answering)
        going = True
        while going and (job := self._queue.get()) is not None:
            jobs, units = [job], job.units
            while units < self._answering.max_batch:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    going = False
                    break
                jobs.append(following)
                units += following.units
            outcomes = self._process(jobs)
            self._loop.call_soon_threadsafe(self._deliver, jobs, outcomes)

    def _process(self, jobs: list[_Job]) -> list[Any]:
        """A result or an exception for each job."""
        now = time.monotonic()
        outcomes: list[Any] = [None] * len(jobs)
        batch: list[int] = []
        for at, job in enumerate(jobs):
            if now > job.due or job.future.cancelled():
                self._metrics.refused.add("deadline")
                outcomes[at] = Problem.overloaded(1)
            elif callable(job.work):
                outcomes[at] = _attempt(job.work)
            else:
                batch.append(at)
        if batch:
            for at, outcome in zip(batch, self._answer([jobs[at] for at in batch]), strict=True):
                outcomes[at] = outcome
        return outcomes

    def _answer(self, jobs: list[_Job]) -> list[Any]:
        start = time.perf_counter()
        everything = [request for job in jobs for request in job.work]  # type: ignore[union-attr]
        answers = _attempt(lambda: self._recommender.answer([self.resolve(request) for request in everything]))
        seconds = time.perf_counter() - start
        self._metrics.engine.observe(seconds)
        self._metrics.batches.observe(len(everything))
        self._seconds_per_unit += _SMOOTHING * (seconds / len(everything) - self._seconds_per_unit)
        if isinstance(answers, Exception):
            # One bad question must not cost the others their answer.
            return [answers] if len(jobs) == 1 else [self._answer([job])[0] for job in jobs]
        remaining = iter(answers)
        return [[next(remaining) for _ in range(job.units)] for job in jobs]

    def _deliver(self, jobs: list[_Job], outcomes: list[Any]) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            self.pending -= job.units
            if job.future.done():
                continue
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)


def _attempt(function: Callable[[], T]) -> T | Exception:
    try:
        return function()
    except Exception as error:
        return error
