"""Fine-tuning of a served encoder: training events, the usual loss, and the item vectors as they are.

The best state by NDCG@10 on validation events of users that tune is kept; where there are none, the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from leanrec.compression.agreement import Agreement
from leanrec.compression.base import Work
from leanrec.compression.encoder import with_tensors
from leanrec.compression.learning.network import network_of
from leanrec.core.errors import InputError
from leanrec.nn.tables.frozen import FrozenTable
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.training.checkpoints import Progress
from leanrec.training.loader import SequenceLoader
from leanrec.training.objectives import make_objective
from leanrec.training.task import NextItem, StepOptions
from leanrec.training.tracking import open_trackers
from leanrec.training.trainer import Schedule, Trainer

__all__ = ["Tuning", "movement", "tune"]

Tensors = Mapping[str, npt.NDArray[Any]]
State = dict[str, npt.NDArray[Any]]


class Tuning:
    """A network under way: the trainer's task, with something done to the network after every step.

    prepare: changes the fresh network before its optimiser is made. after: told of the network and of the share of
    training that is over, after every step.
    """

    def __init__(
        self, model: Recommender, work: Work, *, epochs: int, lr: float,
        prepare: Callable[[nn.Module], None] = lambda net: None,
        after: Callable[[nn.Module, float], None] = lambda net, done: None,
    ) -> None:  # fmt: skip
        source = model.source
        assert isinstance(source, EmbeddingSource)
        if model.items != work.data.items:
            raise InputError(f"{work.data.name} has other items than {source.name}: tune it on what it was trained on")
        torch.manual_seed(work.seed)
        sequential, config, self.net = network_of(model, work.data)
        assert config.max_length is not None and config.horizon is not None and config.negatives_from is not None
        prepare(self.net)
        items_ND, data = source.index.items_ND, work.data
        objective = make_objective(config.objective, config.objective_options, len(items_ND), config.negatives)
        self.loader = SequenceLoader(
            data.train(), max_length=config.max_length, batch_tokens=config.batch_tokens, num_items=len(items_ND),
            negatives=0 if objective.full else config.negatives, negatives_from=config.negatives_from,
            negative_options=config.negative_options, horizon=config.horizon,
            masked=config.mask_share if sequential.masked else 0.0, class_weight=config.class_weight, seed=work.seed,
            times=data.train_times() if sequential.times else None,
        )  # fmt: skip
        self.steps = -(-self.loader.tokens // config.batch_tokens)
        options = StepOptions(
            lr=lr, warmup=min(20, self.steps // 10), schedule="linear", total_steps=epochs * self.steps + 1,
            weight_decay=config.weight_decay, clip=config.clip, precision="float32", device="cpu", seed=work.seed,
        )  # fmt: skip
        self._task = NextItem(self.net, FrozenTable(items_ND), objective, options)
        self._after, self._taken, self._total = after, 0, max(1, epochs * self.steps)
        self.workers, self.grad_norm = self._task.workers, 0.0

    @property
    def lr(self) -> float:
        return self._task.lr

    def step(self, batch: Any) -> float:
        loss = self._task.step(batch)
        self._taken += 1
        self.grad_norm = self._task.grad_norm
        with torch.no_grad():
            self._after(self.net, self._taken / self._total)
        return loss

    def prefetch(self, batch: Any) -> None:
        self._task.prefetch(batch)

    def state(self) -> State:
        return self._task.state()

    def load_state(self, state: State) -> None:
        self._task.load_state(state)

    def keep(self, states: Sequence[State]) -> None:
        self._task.keep(states)

    def tensors(self, known: Tensors) -> State:
        """A copy of the network's arrays, and of `known` what is not the network's."""
        return {**known, **{name: np.array(array) for name, array in self._task.weights().items()}}

    def run(
        self, epochs: int, seconds: float | None, validate: Callable[[], float] | None, *, first: int = 0
    ) -> Progress:
        """Epochs `first`.. of training, as many as there is time for; the best state by `validate`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        schedule = Schedule(epochs=first + epochs, patience=max(3, epochs // 3), deadline=deadline)
        progress = Progress(stage="tune", epoch=first, best_score=-1.0)
        return Trainer(
            self, self.loader, schedule, progress, validate=validate, folder=None, tracker=open_trackers((), None, ""),
        ).run()  # fmt: skip


def tune(
    model: Recommender, work: Work, *, epochs: int, lr: float,
    finish: Callable[[State], Recommender] | None = None,
    prepare: Callable[[nn.Module], None] = lambda net: None,
    after: Callable[[nn.Module, float], None] = lambda net, done: None,
    ramp: int = 0,
) -> tuple[Recommender, dict[str, Any]]:  # fmt: skip
    """The recommender with its encoder fine-tuned, and the numbers of it.

    finish: the recommender of a state's arrays, as it will be served; validation asks that one. ramp: the first epochs,
    which are not validated: their states are not what is wanted yet.
    """
    source = model.source
    assert isinstance(source, EmbeddingSource)
    tuning = Tuning(model, work, epochs=epochs, lr=lr, prepare=prepare, after=after)
    known = source.engine.tensors()

    def served() -> Recommender:
        tensors = tuning.tensors({name: known[name] for name in known if name not in tuning.net.state_dict()})
        return with_tensors(model, tensors) if finish is None else finish(tensors)

    judge = _judge(model, work)
    validate = None if judge is None else lambda: judge.score(served())
    left = work.seconds
    if ramp:
        tuning.run(min(ramp, epochs), None if left is None else left * ramp / epochs, None)
        left = None if left is None else left * (1 - ramp / epochs)
    done = tuning.run(epochs - ramp, left, validate, first=ramp) if epochs > ramp else Progress()
    facts = {"epochs": done.epoch or ramp, "best_epoch": done.best_epoch, "validation": done.scores}
    return served(), facts


def _judge(model: Recommender, work: Work) -> Agreement | None:
    try:
        return Agreement(model, work, "ndcg@10", users=2000)
    except InputError:
        return None


def movement(model: Recommender, work: Work, batches: int = 16) -> State:
    """Weight times gradient of the loss, summed over batches: what a weight's going would change, to first order."""
    found: State = {}

    def account(net: nn.Module, done: float) -> None:
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                found[name] = found.get(name, 0) + (parameter * parameter.grad).numpy()

    tuning = Tuning(model, work, epochs=1, lr=0.0, after=account)
    for at, batch in enumerate(tuning.loader.epoch(0)):
        if at == batches:
            break
        tuning.step(batch)
    return found
