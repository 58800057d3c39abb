"""Batches of packed next-item sequences, made in a thread ahead of the step that uses them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.kernels.packing import fill_rows, pack_windows

__all__ = ["Batch", "SequenceLoader"]

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed inputs (see nn.packing.Packed) and T predictions: `targets_T` follow the flat slots `slots_T`."""

    items_RL: npt.NDArray[np.int32]
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

    def rows(self, low: int, high: int) -> Batch:
        """The part of the batch in packed rows low..high, with the same negatives."""
        row_T = self.slots_T // self.items_RL.shape[1]
        kept = (row_T >= low) & (row_T < high)
        return replace(
            self, items_RL=self.items_RL[low:high], segment_RL=self.segment_RL[low:high],
            position_RL=self.position_RL[low:high], slots_T=self.slots_T[kept] - low * self.items_RL.shape[1],
            targets_T=self.targets_T[kept], times_RL=None if self.times_RL is None else self.times_RL[low:high],
        )  # fmt: skip


class SequenceLoader:
    """Cuts each user's sequence into windows, shuffles them, packs about `batch_tokens` predictions into a batch.

    A prediction is one of the next `horizon` events, drawn anew every epoch: 1 is the next item; more suits data whose
    order within a basket means nothing, and lists that are judged by all that follows (PinnerFormer, arXiv:2205.04507).
    A history longer than the window is cut at a phase that changes every epoch, so all of its events are learned from.
    Everything drawn depends on (seed, epoch, step) alone, so a run resumes at any step with the same batches. times:
    of the events, in the layout of `sequences`, for networks that look at them.
    """

    def __init__(
        self, sequences: Jagged, *, max_length: int, batch_tokens: int, num_items: int, negatives: int = 0,
        horizon: int = 1, seed: int = 0, times: Jagged | None = None,
    ) -> None:  # fmt: skip
        self.max_length, self.batch_tokens, self.seed = max_length, batch_tokens, seed
        self.num_items, self.negatives, self.horizon = num_items, negatives, horizon
        self._values = np.ascontiguousarray(sequences.values, dtype=np.int32)
        self._times = None if times is None else times.values
        lengths = sequences.lengths
        users = np.flatnonzero(lengths >= 2)
        self._first, self._end = sequences.offsets[users], sequences.offsets[users + 1]
        self._pairs = lengths[users] - 1
        self.tokens = int(self._pairs.sum())

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
        length = self.max_length
        row_W, start_W, rows = pack_windows(size_W, length)
        items = np.zeros((rows, length), np.int32)
        segment = np.full((rows, length), -1, np.int64)
        position = np.zeros((rows, length), np.int64)
        tokens = int(size_W.sum())
        slots, targets = np.empty(tokens, np.int64), np.empty(tokens, np.int32)
        random = np.random.default_rng((self.seed, epoch, step, 1))
        ahead = random.integers(0, self.horizon, tokens) if self.horizon > 1 else np.zeros(tokens, np.int64)
        fill_rows(self._values, first_W, end_W, size_W, row_W, start_W, ahead, items, segment, position, slots, targets)
        negatives = random.integers(0, self.num_items, self.negatives, dtype=np.int32)
        expected = np.full(self.negatives, np.log(max(self.negatives, 1) / self.num_items), np.float32)
        uniform = bool(tokens == rows * length == size_W[0] * rows)
        times = None
        if self._times is not None:
            times = np.zeros((rows, length), np.float64)
            source_T = np.arange(tokens) + np.repeat(first_W - np.cumsum(size_W) + size_W, size_W)
            times.reshape(-1)[slots] = self._times[source_T]
        return Batch(items, segment, position, slots, targets, uniform, negatives, expected, step, times)

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
