"""The loop: epochs, validation, early stopping, checkpoints, exact resume, and an end in time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from leanrec.core.allocator import freed_memory_kept
from leanrec.core.console import Progress as Bar
from leanrec.core.console import say
from leanrec.core.errors import LeanrecError
from leanrec.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from leanrec.training.profile import moved, staged, waited
from leanrec.training.tracking import Tracker
from leanrec.training.workers.base import Workers

__all__ = ["Batches", "DivergedError", "Schedule", "Task", "Trainer"]

State = dict[str, npt.NDArray[Any]]


class Task(Protocol):
    """What is trained: steps by batches, and a state to keep and to come back to."""

    workers: Workers
    grad_norm: float

    @property
    def lr(self) -> float:
        """Learning rate of the last step."""

    def step(self, batch: Any) -> float:
        """Learn from a batch; its mean loss before that."""

    def prefetch(self, batch: Any) -> None:
        """A batch that will come."""

    def state(self) -> State:
        """All that training goes on from; views of arrays that later steps change."""

    def load_state(self, state: State) -> None:
        """Back to a state."""

    def keep(self, states: Sequence[State]) -> None:
        """Only these states may be loaded again."""


class Batches(Protocol):
    """What it is trained on: batches with their number `step` in the epoch, and how many `predictions` they are."""

    @property
    def tokens(self) -> int:
        """Predictions of an epoch."""

    def epoch(self, epoch: int, start: int = 0, *, announce: Callable[[Any], None]) -> Iterator[Any]:
        """The batches of an epoch from step `start` on, the same at every call."""


class DivergedError(LeanrecError):
    """The loss is no longer a number; the last good checkpoint is intact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When to stop and when to save."""

    epochs: int
    patience: int
    """Epochs without a better validation score after which training stops."""
    validate_every: int = 1
    judge_start: bool = False
    """Whether the start is validated too, as epoch 0, because it is more than noise."""
    save_every: float = 60.0
    """Seconds of training between checkpoints that an interrupted run goes on from."""
    deadline: float | None = None
    """`time.monotonic()` after which the epoch under way ends, is validated, and the best so far is kept."""
    unit: str = "epoch"
    """What an epoch is called where it is not a pass over all that is learnt from."""


class Trainer:
    """Runs one stage of training over a task.

    folder: where `last.safetensors` and `best.safetensors` are kept, or None for memory alone.
    validate: score of the task as it stands, larger is better; None trains `epochs` epochs and keeps the last.
    on_best: called after each better score, with the task in that state.
    """

    def __init__(
        self, task: Task, loader: Batches, schedule: Schedule, progress: Progress, *,
        validate: Callable[[], float] | None, folder: Path | None, tracker: Tracker,
        on_best: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.task, self.loader, self.schedule, self.progress = task, loader, schedule, progress
        self._workers = task.workers
        self._validate, self._on_best, self._tracker = validate, on_best, tracker
        self._last = folder / "last.safetensors" if folder else None
        self._best_path = folder / "best.safetensors" if folder else None
        self._best: State | None = None
        self._kept: dict[str, State] = {}
        self._saved = time.monotonic()

    def resume(self) -> bool:
        """Continue from `last.safetensors` when there is one of this stage."""
        if self._last is None or not self._last.exists():
            return False
        tensors, progress = load_checkpoint(self._last)
        if progress.stage != self.progress.stage:
            return False
        self.task.load_state(tensors)
        self.progress = progress
        self._kept["last"] = tensors
        if self._validate is not None and progress.judged:
            self._kept["best"] = self._best_state()
        return True

    def run(self) -> Progress:
        """Train until the epochs, the patience or the time are used up; the task ends in its best state."""
        with freed_memory_kept():
            return self._run()

    def _run(self) -> Progress:
        state = self.progress
        started = time.monotonic() - state.seconds
        if self._validate is not None and self.schedule.judge_start and not (state.epoch or state.step):
            self._judge(self._validate(), started)
        while not self._finished():
            self._epoch()
            if self._validate is not None and state.epoch % self.schedule.validate_every == 0:
                self._judge(self._validate(), started)
            state.seconds = time.monotonic() - started
            if self._agreed(self._due()):
                self._save()
        self._save()
        if self._validate is not None and state.judged:
            self.task.load_state(self._best_state())
        return state

    def _finished(self) -> bool:
        state, schedule = self.progress, self.schedule
        if state.step == 0 and state.epoch >= schedule.epochs:
            return True
        stale = state.judged and state.epoch - state.best_epoch >= schedule.patience
        return (
            state.step == 0
            and state.epoch > 0
            and (self._agreed(self._late()) or (self._validate is not None and stale))
        )

    def _agreed(self, here: bool) -> bool:
        """What the first worker finds: its clock counts for all."""
        return bool(self._workers.agree(float(here)))

    def _late(self) -> bool:
        return self.schedule.deadline is not None and time.monotonic() > self.schedule.deadline

    def _epoch(self) -> None:
        state = self.progress
        with Bar(f"{self.schedule.unit} {state.epoch + 1}", self.loader.tokens) as bar:
            bar.done, before, start = state.loss_count, state.loss_count, time.monotonic()
            for batch in waited(self.loader.epoch(state.epoch, state.step, announce=self.task.prefetch)):
                loss = self.task.step(batch)
                if not math.isfinite(loss):
                    raise DivergedError(
                        f"the loss became {loss} in {self.schedule.unit} {state.epoch + 1}, step {state.step + 1}: "
                        "lower it with --set lr=... ; the last good checkpoint is kept"
                    )
                count = batch.predictions
                state.loss_sum += loss * count
                state.loss_count += count
                state.step = batch.step + 1
                bar.advance(count, f"loss {state.loss_sum / state.loss_count:.4f}")
                if state.step % self._workers.poll_every:
                    continue
                if self._agreed(self._late()):
                    break
                if self._agreed(self._due()):
                    self._save()
            rate = (state.loss_count - before) / max(time.monotonic() - start, 1e-9)
        mean = state.loss_sum / max(state.loss_count, 1)
        scalars = {"loss": mean, "predictions_per_second": rate, "lr": self.task.lr, "grad_norm": self.task.grad_norm}
        self._tracker.scalars(state.epoch + 1, {f"{state.stage}/{name}": value for name, value in scalars.items()})
        if self._validate is None:
            say(f"{self.schedule.unit} {state.epoch + 1}/{self.schedule.epochs}: loss {mean:.4f}")
        self._mean_loss = mean
        state.epoch, state.step, state.loss_sum, state.loss_count = state.epoch + 1, 0, 0.0, 0

    def _judge(self, score: float, started: float) -> None:
        state = self.progress
        better = not state.judged or score > state.best_score
        state.scores.append(score)
        self._tracker.scalars(state.epoch, {f"{state.stage}/validation": score})
        what = f"loss {self._mean_loss:.4f}" if state.epoch else "the start"
        say(
            f"{self.schedule.unit} {state.epoch}: {what}, validation {score:.4f}{' *' if better else ''}, "
            f"{time.monotonic() - started:.0f} s"
        )
        if better:
            state.best_score, state.best_epoch = score, state.epoch
            self._best = self._store(self._best_path, "best")
            self._on_best()

    def _due(self) -> bool:
        return time.monotonic() - self._saved > self.schedule.save_every

    def _save(self) -> None:
        if self._last is not None:
            self._store(self._last, "last")
        self._saved = time.monotonic()

    @staged("checkpoint")
    def _store(self, path: Path | None, which: str) -> State | None:
        """Write the task's state to `path`, or return a copy of it where there is none."""
        state = self.task.state()
        moved(sum(array.nbytes for array in state.values()))
        if path is None:
            state = {name: np.array(array) for name, array in state.items()}
        elif self._workers.rank == 0:
            save_checkpoint(path, state, self.progress)
        self._kept[which] = state
        self.task.keep(list(self._kept.values()))
        return state if path is None else None

    def _best_state(self) -> State:
        if self._best is None:
            assert self._best_path is not None
            self._best = load_checkpoint(self._best_path)[0]
        return self._best
