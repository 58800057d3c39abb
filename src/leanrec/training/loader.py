"""Batches of packed sequences with what they have to predict, made in a thread ahead of the step that uses them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.packing import fill_rows, pack_windows
from leanrec.training.augment import ContrastiveOptions, view
from leanrec.training.negatives import make_negatives
from leanrec.training.soft import Soft, SoftLabels

__all__ = ["Batch", "SequenceLoader"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed inputs (see nn.packing.Packed) and T predictions: of `targets_T` at the flat slots `slots_T`."""

    items_RL: npt.NDArray[np.int32]
    """-1 where the input is hidden."""
    segment_RL: npt.NDArray[np.int64]
    position_RL: npt.NDArray[np.int64]
    slots_T: npt.NDArray[np.int64]
    targets_T: npt.NDArray[np.int32]
    uniform: bool
    negatives_n: npt.NDArray[np.int32]
    log_expected_n: npt.NDArray[np.float32]
    """Log of how often each negative's item is expected among the n drawn."""
    step: int
    times_RL: npt.NDArray[np.float64] | None = None
    """Unix seconds of the inputs' events, where the loader was given times."""
    weight_T: npt.NDArray[np.float32] | None = None
    """What each prediction counts for, 1 on average over the events; None weighs all the same."""
    views: Batch | None = None
    """Two altered views of every window, for a contrastive loss: its slots are their last, first those of all first
    views, then those of all second ones; it predicts nothing."""
    soft: Soft | None = None
    """What teachers say at each prediction, where the loader was given labels of theirs."""

    @property
    def predictions(self) -> int:
        return len(self.targets_T)

    def rows(self, low: int, high: int) -> Batch:
        """The part of the batch in packed rows low..high, with the same negatives and without views."""
        row_T = self.slots_T // self.items_RL.shape[1]
        kept = (row_T >= low) & (row_T < high)
        return replace(
            self, items_RL=self.items_RL[low:high], segment_RL=self.segment_RL[low:high],
            position_RL=self.position_RL[low:high], slots_T=self.slots_T[kept] - low * self.items_RL.shape[1],
            targets_T=self.targets_T[kept], times_RL=None if self.times_RL is None else self.times_RL[low:high],
            weight_T=None if self.weight_T is None else self.weight_T[kept], views=None,
            soft=None if self.soft is None else self.soft.take(kept),
        )  # fmt: skip


class SequenceLoader:
    """Cuts each user's sequence into windows, shuffles them, packs about `batch_tokens` events into a batch.

    A prediction is one of the next `horizon` events, drawn anew every epoch: 1 is the next item; more suits data whose
    order within a basket means nothing, and lists that are judged by all that follows (PinnerFormer, arXiv:2205.04507).
    A history longer than the window is cut at a phase that changes every epoch, so all of its events are learned from.
    Everything drawn depends on (seed, epoch, step) alone, so a run resumes at any step with the same batches.

    masked: share of the events that is hidden and predicted instead (cloze, arXiv:1904.06690); 0 predicts what comes
    next. As many windows hide only their last event, which is how a history is asked about. negatives_from: see
    training.negatives. class_weight: predictions count by this power of 1 / the target's number of events. views: of
    every window two are made, see training.augment. times: of the events, in the layout of `sequences`, for networks
    that look at them. soft: what teachers say after each event, in the same layout; not with `masked`.
    """

    def __init__(
        self, sequences: Jagged, *, max_length: int, batch_tokens: int, num_items: int, negatives: int = 0,
        negatives_from: str = "uniform", negative_options: Mapping[str, Any] | None = None, horizon: int = 1,
        masked: float = 0.0, class_weight: float = 0.0, views: ContrastiveOptions | None = None, seed: int = 0,
        times: Jagged | None = None, soft: SoftLabels | None = None,
    ) -> None:  # fmt: skip
        assert 0 <= masked < 1, "a share"
        assert not (masked and soft), "teachers are asked what comes next"
        self._soft = soft
        self.max_length, self.batch_tokens, self.seed = max_length, batch_tokens, seed
        self.negatives, self.horizon, self.masked, self._views = negatives, horizon, masked, views
        self._values = np.ascontiguousarray(sequences.values, dtype=np.int32)
        if masked:  # whose last events have a place after them too
            self._values = np.append(self._values, np.int32(0))
        self._times = None if times is None else times.values
        lengths = sequences.lengths
        users = np.flatnonzero(lengths >= 2)
        beyond = 1 if masked else 0
        self._first, self._end = sequences.offsets[users], sequences.offsets[users + 1] + beyond
        self._pairs = lengths[users] - 1 + beyond
        self.tokens = int(self._pairs.sum())
        counts_N = _counts(sequences, num_items, needed=negatives_from != "uniform" or class_weight != 0)
        self._sampler = make_negatives(negatives_from, negative_options or {}, counts_N)
        self._weight_N = _class_weights(counts_N, class_weight) if class_weight else None

    def windows(self, epoch: int) -> tuple[I64, I64, I64]:
        """(W,) first value, end of the user's values, and number of predictions of every window, shuffled."""
        random = np.random.default_rng((self.seed, epoch))
        length = self.max_length
        phase = np.where(self._pairs > length, random.integers(1, length + 1, len(self._pairs)), length)
        head = np.minimum(phase, self._pairs)
        count = 1 + -(-(self._pairs - head) // length)
        ends = np.cumsum(count)
        nth = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - count, count)
        begin = np.where(nth == 0, 0, np.repeat(head, count) + (nth - 1) * length)
        size = np.minimum(np.where(nth == 0, np.repeat(head, count), length), np.repeat(self._pairs, count) - begin)
        order = random.permutation(len(nth))
        first = np.repeat(self._first, count) + begin
        return first[order], np.repeat(self._end, count)[order], size[order]

    def _make(self, first_W: I64, end_W: I64, size_W: I64, step: int, epoch: int) -> Batch:
        random = np.random.default_rng((self.seed, epoch, step, 1))
        tokens = int(size_W.sum())
        ahead_T = random.integers(0, self.horizon, tokens) if self.horizon > 1 else np.zeros(tokens, np.int64)
        batch = self._pack(self._values, first_W, end_W, size_W, ahead_T, step)
        views = None if self._views is None else self._alter(batch, size_W, self._views, random)
        source_T = np.arange(tokens) + np.repeat(first_W - np.cumsum(size_W) + size_W, size_W)
        if self._soft is not None:
            batch = replace(batch, soft=self._soft.at(source_T))
        if self._times is not None:
            times = np.zeros(batch.items_RL.shape, np.float64)
            times.reshape(-1)[batch.slots_T] = self._times[source_T]
            batch = replace(batch, times_RL=times)
        if self.masked:
            batch = self._hide(batch, size_W, random)
        negatives, expected = self._sampler.draw(self.negatives, batch.targets_T, random)
        weight = None if self._weight_N is None else self._weight_N[batch.targets_T]
        return replace(batch, negatives_n=negatives, log_expected_n=expected, weight_T=weight, views=views)

    def _pack(self, values_S: I32, first_W: I64, end_W: I64, size_W: I64, ahead_T: I64, step: int) -> Batch:
        """Windows of `values_S` side by side in rows, without negatives."""
        row_W, start_W, rows = pack_windows(size_W, self.max_length)
        shape, tokens = (rows, self.max_length), int(size_W.sum())
        items, segment, position = np.zeros(shape, np.int32), np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
        slots, targets = np.empty(tokens, np.int64), np.empty(tokens, np.int32)
        fill_rows(values_S, first_W, end_W, size_W, row_W, start_W, ahead_T, items, segment, position, slots, targets)
        uniform = bool(tokens == items.size == size_W[0] * rows)
        none = np.empty(0, np.int32), np.empty(0, np.float32)
        return Batch(items, segment, position, slots, targets, uniform, *none, step)

    def _hide(self, batch: Batch, size_W: I64, random: np.random.Generator) -> Batch:
        """Predict hidden events of each window, at least one, in place of what comes next."""
        last_W = np.cumsum(size_W) - 1
        only_last_W = random.random(len(size_W)) < self.masked
        hidden_T = (random.random(len(batch.slots_T)) < self.masked) & ~np.repeat(only_last_W, size_W)
        only_last_W |= ~np.logical_or.reduceat(hidden_T, last_W - size_W + 1)
        hidden_T[last_W[only_last_W]] = True
        slots, items_RL = batch.slots_T[hidden_T], batch.items_RL.copy()
        targets = items_RL.reshape(-1)[slots]
        items_RL.reshape(-1)[slots] = -1
        return replace(batch, items_RL=items_RL, slots_T=slots, targets_T=targets, uniform=False)

    def _alter(self, batch: Batch, size_W: I64, options: ContrastiveOptions, random: np.random.Generator) -> Batch:
        """Two views of each window."""
        inputs_T = batch.items_RL.reshape(-1)[batch.slots_T]
        (items_a, size_a), (items_b, size_b) = (view(inputs_T, size_W, options, random) for _ in range(2))
        values, size = np.concatenate([items_a, items_b, np.zeros(1, np.int32)]), np.concatenate([size_a, size_b])
        end = np.cumsum(size)
        packed = self._pack(values, end - size, end + 1, size, np.zeros(len(values) - 1, np.int64), batch.step)
        return replace(packed, slots_T=packed.slots_T[end - 1], targets_T=packed.targets_T[:0], uniform=False)

    def epoch(
        self, epoch: int, start: int = 0, *, announce: Callable[[Batch], None] = lambda batch: None
    ) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, two of them made ahead.

        announce: told of each batch, in the thread that makes it, before the batch is asked for.
        """
        first, end, size = self.windows(epoch)
        batch_of = (np.cumsum(size) - size) // self.batch_tokens
        edges = np.flatnonzero(np.diff(batch_of, prepend=-1, append=-2))
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=2)
        stop = threading.Event()

        def deliver(item: Batch | BaseException | None) -> None:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return
                except queue.Full:
                    continue

        def work() -> None:
            try:
                for step in range(start, len(edges) - 1):
                    if stop.is_set():
                        return
                    low, high = edges[step], edges[step + 1]
                    batch = self._make(first[low:high], end[low:high], size[low:high], step, epoch)
                    announce(batch)
                    deliver(batch)
                deliver(None)
            except BaseException as error:
                deliver(error)

        thread = threading.Thread(target=work, name="leanrec-loader", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()


def _counts(sequences: Jagged, num_items: int, *, needed: bool) -> I64:
    """(N,) events of each item; where nobody asks, nothing but the shape."""
    if not needed:
        return np.broadcast_to(np.int64(1), (num_items,))
    return np.bincount(sequences.values, minlength=num_items)


def _class_weights(counts_N: I64, exponent: float) -> npt.NDArray[np.float32]:
    """counts to the power -exponent, 1 on average over the events."""
    weight_N: npt.NDArray[np.float64] = np.maximum(counts_N, 1).astype(np.float64) ** -exponent
    weight_N *= counts_N.sum() / (weight_N @ counts_N)
    return weight_N.astype(np.float32)
