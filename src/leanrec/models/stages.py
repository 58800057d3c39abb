"""The stages of a fit in epochs: a search for their number on validation, then, when asked, the refit."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable

from leanrec.core.config import Config, to_dict
from leanrec.core.console import say
from leanrec.data.dataset import Dataset
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.metrics import parse_metric
from leanrec.models.base import FitOptions
from leanrec.runtime.recommender import Recommender
from leanrec.training.checkpoints import Progress, stored_progress
from leanrec.training.profile import staged
from leanrec.training.tracking import Tracker
from leanrec.training.trainer import Batches, Schedule, Task, Trainer

__all__ = ["Stages"]


class Stages:
    """Where an interrupted fit stands, how long each stage lasts, and what trains it.

    fingerprint: of configuration, seed and data, so that no other run's checkpoint is gone on from.
    folder: where checkpoints are kept, None for memory alone.
    """

    def __init__(self, name: str, config: Config, data: Dataset, options: FitOptions) -> None:
        self._name, self._data, self._options = name, data, options
        text = json.dumps([name, to_dict(config), options.seed, options.refit, data.fingerprint], sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.folder = options.run / "checkpoints" if options.run else None

    def stored(self, first: str) -> Progress:
        """Where an interrupted fit stands when it is to be resumed, else the start of its first stage."""
        folder = self.folder if self._options.resume else None
        return stored_progress(folder, self.fingerprint) or Progress(stage=first, fingerprint=self.fingerprint)

    def search(self, epochs: int, patience: int, validate_every: int = 1, *, judge_start: bool = False) -> Schedule:
        """Until validation no longer gets better; a refit has the other half of the time."""
        limit = self._options.time_limit
        if limit is not None and self._options.refit:
            limit /= 2
        return Schedule(
            epochs=epochs, patience=patience, validate_every=validate_every, judge_start=judge_start,
            save_every=self._options.save_every, deadline=None if limit is None else time.monotonic() + limit,
        )  # fmt: skip

    def after(self, search: Progress, stage: str) -> Progress:
        """The start of the stage that follows the search, of as many epochs as were best."""
        return Progress(
            stage=stage, best_epoch=search.best_epoch if search.judged else search.epoch, best_score=search.best_score,
            scores=search.scores, seconds=search.seconds, fingerprint=self.fingerprint,
        )  # fmt: skip

    def fixed(self, epochs: int) -> Schedule:
        """So many epochs, whatever they bring."""
        return Schedule(epochs=epochs, patience=0, save_every=self._options.save_every)

    def refit(self, progress: Progress) -> Schedule:
        """As long as the search found to be best, and says so."""
        say(f"{self._name}: again on train + validation for {progress.best_epoch} epochs")
        return self.fixed(progress.best_epoch)

    def score(self, recommender: Recommender) -> float:
        """The metric of users that tune, on their validation events."""
        metric = parse_metric(self._options.metric)
        result = evaluate(recommender, self._data, on="valid", k=(metric.k,), users="tune")
        return result.rows[0].metrics[str(metric)]

    def trainer(
        self, task: Task, batches: Batches, schedule: Schedule, progress: Progress, tracker: Tracker, *,
        recommender: Callable[[Progress], Recommender], score: Callable[[Recommender], float] | None,
    ) -> Trainer:  # fmt: skip
        """Of one stage. recommender: the task as it stands, ready to answer. score: None trains all of the epochs."""
        options, workers = self._options, task.workers

        @staged("validation")
        def validate() -> float:
            assert score is not None
            answering, found = recommender(trainer.progress), 0.0
            if workers.rank == 0:
                found = score(answering)
                if options.on_score is not None:
                    options.on_score(trainer.progress.epoch, found)
            return workers.agree(found)

        @staged("write the bundle")
        def publish() -> None:
            if options.run is None:
                return
            answering = recommender(trainer.progress)  # of all workers: it may have to be gathered
            if workers.rank == 0:
                answering.save(options.run / "bundle")

        trainer = Trainer(
            task, batches, schedule, progress, validate=None if score is None else validate, folder=self.folder,
            tracker=tracker, on_best=publish,
        )  # fmt: skip
        if options.resume and trainer.resume():
            say(f"{self._name}: resuming {progress.stage} at epoch {progress.epoch + 1}, step {progress.step + 1}")
        return trainer
