"""Service time as a formula, fitted to measurements of this machine: seconds of a batch of B answers with T tokens.

    seconds(B, T, N) = (a + b B + c T + d N + e B N) / speedup(threads)

N: rows of the catalogue. a: what a call costs; b: an answer; c: a token of its history; d: a row that is read once for
a batch; e: a row that is scored for an answer. Coefficients are not negative, and errors are relative, so that short
and long times count alike. The speed-up of n threads is

    speedup(n) = n / (1 + s (n - 1) + k n (n - 1))          Gunther's law; Amdahl's where k = 0

with s the share that is done by one thread and k what threads cost each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError

__all__ = ["Point", "ServiceModel", "fit", "held_out_error", "scaling", "speedup"]

_TERMS = ("call", "answer", "token", "row", "answer_row")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: seconds of a batch, the median of many."""

    batch: int
    tokens: float
    rows: int
    seconds: float
    threads: int = 1


class ServiceModel(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds by term, and the two shares of the speed-up. error: of held-out points, the median relative one."""

    call: float
    answer: float
    token: float
    row: float
    answer_row: float
    serial: float = 0.0
    crosstalk: float = 0.0
    error: float = float("nan")
    worst: float = float("nan")

    def seconds(self, batch: float, tokens: float, rows: float, threads: int = 1) -> float:
        """Of a batch whose histories have `tokens` events together."""
        terms = _terms(batch, tokens, rows)
        alone: float = sum(getattr(self, name) * term for name, term in zip(_TERMS, terms, strict=True))
        return alone / speedup(threads, self.serial, self.crosstalk)


def speedup(threads: int, serial: float, crosstalk: float = 0.0) -> float:
    """How many times faster so many threads are than one."""
    return threads / (1 + serial * (threads - 1) + crosstalk * threads * (threads - 1))


def fit(points: Sequence[Point]) -> ServiceModel:
    """The model of least relative errors; InputError for fewer than two points."""
    alone = [one for one in points if one.threads == 1]
    if len(alone) < 2:
        raise InputError("a capacity model needs at least two measurements with one thread")
    terms = np.array([_terms(one.batch, one.tokens, one.rows) for one in alone])
    seconds = np.array([one.seconds for one in alone])
    # what does not vary cannot be told from the constant
    varied = [0, *(place for place in range(1, len(_TERMS)) if np.ptp(terms[:, place] / terms[:, place].max()) > 1e-9)]
    if np.ptp(terms[:, 4] / terms[:, 1]) < 1e-9 and 4 in varied:
        varied.remove(4)  # one catalogue: scoring its rows is part of an answer
    weights = np.zeros(len(_TERMS))
    weights[varied] = _non_negative(terms[:, varied] / seconds[:, None], np.ones(len(alone)))
    model = ServiceModel(**dict(zip(_TERMS, weights.tolist(), strict=True)))
    measured = [(one.threads, model.seconds(one.batch, one.tokens, one.rows) / one.seconds) for one in points]
    serial, crosstalk = scaling([(threads, faster) for threads, faster in measured if threads > 1])
    return msgspec.structs.replace(model, serial=serial, crosstalk=crosstalk)


def held_out_error(points: Sequence[Point], folds: int = 4) -> tuple[float, float]:
    """(median, largest) relative error of points that the model was not fitted to, each in one of the folds."""
    errors = []
    for fold in range(folds):
        rest = [one for place, one in enumerate(points) if place % folds != fold]
        model = fit(rest)
        errors += [
            abs(model.seconds(one.batch, one.tokens, one.rows, one.threads) / one.seconds - 1)
            for place, one in enumerate(points)
            if place % folds == fold
        ]
    return float(np.median(errors)), float(np.max(errors))


def scaling(measured: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """(serial, crosstalk) from (threads, speed-up): n / speedup - 1 is linear in both. One count of threads: Amdahl."""
    if not measured:
        return 0.0, 0.0
    threads = np.array([count for count, _ in measured], dtype=np.float64)
    lost = threads / np.array([faster for _, faster in measured]) - 1
    columns = np.stack([threads - 1, threads * (threads - 1)], axis=1)
    if len(set(threads.tolist())) == 1:
        columns = columns[:, :1]
    found = _non_negative(columns, lost)
    return float(found[0]), float(found[1]) if len(found) > 1 else 0.0


def _terms(batch: float, tokens: float, rows: float) -> tuple[float, ...]:
    return 1.0, batch, tokens, rows, batch * rows


def _non_negative(columns: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least squares with coefficients of at least 0: the best over all sets of columns, which are at most five."""
    scale = np.maximum(np.abs(columns).max(axis=0), 1e-300)
    best, least = np.zeros(columns.shape[1]), float(target @ target)
    for count in range(1, columns.shape[1] + 1):
        for chosen in itertools.combinations(range(columns.shape[1]), count):
            some = columns[:, chosen] / scale[list(chosen)]
            found, *_ = np.linalg.lstsq(some, target, rcond=None)
            if (found < 0).any():
                continue
            error = float(((some @ found - target) ** 2).sum())
            if error < least * (1 - 1e-9):
                best, least = np.zeros(columns.shape[1]), error
                best[list(chosen)] = found / scale[list(chosen)]
    return best
