"""Which event trains, validates, tests, or is only shown as history: the splits of a Protocol.

All take the events of some users, oldest first, and return one uint8 label an event (see `Protocol`).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.registry import nearest

__all__ = [
    "CONTEXT",
    "TEST",
    "TRAIN",
    "VALID",
    "Protocol",
    "Split",
    "assign",
    "certifying",
    "draw_valid",
    "parse_split",
    "stable_uniform",
    "user_hashes",
]

TRAIN, VALID, TEST, CONTEXT = 0, 1, 2, 3
"""Labels of events. Context: history of held-out users, never trained on."""

Labels = npt.NDArray[np.uint8]

_KINDS = ("leave-one-out", "time", "ratio", "users", "random", "column")
VALID_SHARE = 0.1


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """How results on a data set are judged; kept with the data, so that every model is judged alike."""

    split: str
    """As given: `leave-one-out`, `time:0.8,0.1,0.1`, `ratio:...`, `users:...`, `column:NAME`."""
    repeats: bool
    """Whether items that a user has already had may be recommended to them."""
    ordered: bool
    """Whether the order of a user's events is known; without it there are no sequences to learn from."""
    certify: float = 0.5
    """Share of users that only certify: trained on, but kept from early stopping and every search."""
    seed: int = 0
    drawn_valid: bool = False
    """The validation part was drawn from the given training part: refit on both before testing."""


@dataclass(frozen=True, slots=True)
class Split:
    """A parsed split. kind: leave-one-out, time, ratio, users, random or column. shares: train, valid, test; sum 1."""

    kind: str
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    column: str | None = None

    @property
    def needs_order(self) -> bool:
        return self.kind not in ("column", "random")


def parse_split(text: str) -> Split:
    """`leave-one-out`; `time`, `ratio`, `users` or `random` with shares, as in `time:0.8,0.1,0.1`; `column:NAME`."""
    kind, colon, rest = text.strip().partition(":")
    if kind not in _KINDS or (kind == "leave-one-out" and colon):
        raise InputError(f"unknown split {text!r}{nearest(kind, list(_KINDS))}; there are: {', '.join(_KINDS)}")
    if kind == "leave-one-out":
        return Split(kind)
    if kind == "column":
        if not rest:
            raise InputError("split 'column' needs the name of the column: column:NAME")
        return Split(kind, column=rest)
    return Split(kind, _shares(rest, text)) if colon else Split(kind)


def _shares(rest: str, text: str) -> tuple[float, float, float]:
    try:
        train, valid, test = (float(part) for part in rest.split(","))
    except ValueError:
        raise InputError(f"split {text!r} needs three shares, train, valid and test, such as 0.8,0.1,0.1") from None
    if not (0 < train < 1 and 0 <= valid < 1 and 0 < test < 1 and abs(train + valid + test - 1) < 1e-6):
        raise InputError(f"the shares of split {text!r} must be positive and sum to 1 (only valid may be 0)")
    return train, valid, test


def assign(
    split: Split,
    events: Jagged,
    times: npt.NDArray[np.float64] | None,
    cuts: tuple[float, float] | None,
    hashes: npt.NDArray[np.uint64],
) -> Labels:
    """(T,) labels of some users' events, for every split but `column`, whose labels are given.

    cuts: for `time`, when valid and test begin. hashes: (users,) `user_hashes` for "split", or "rank" for `random`.
    """
    if split.kind == "leave-one-out":
        return _leave_one_out(events)
    if split.kind == "ratio":
        return _by_ratio(events, split.shares)
    if split.kind == "users":
        return _by_users(events, split.shares, _uniform(hashes))
    if split.kind == "random":
        return _by_ratio(events, split.shares, _random_rank(events, hashes))
    assert split.kind == "time" and times is not None and cuts is not None
    return _by_time(times, cuts)


def _leave_one_out(events: Jagged) -> Labels:
    """Last event test, last but one valid; users with fewer than three events train throughout."""
    labels = np.full(len(events.values), TRAIN, dtype=np.uint8)
    ends = events.offsets[1:][events.lengths >= 3]
    labels[ends - 1] = TEST
    labels[ends - 2] = VALID
    return labels


def _by_ratio(events: Jagged, shares: tuple[float, float, float], rank: npt.NDArray[np.int64] | None = None) -> Labels:
    """Each user's last events test, those before valid, rounded so that the first always trains.

    rank: (T,) 0 for the event of its user that counts as the last; by default as they stand.
    """
    lengths = events.lengths
    spare = np.maximum(lengths - 1, 0)
    tests = np.minimum(np.floor(lengths * shares[2] + 0.5).astype(np.int64), spare)
    valids = np.minimum(np.floor(lengths * shares[1] + 0.5).astype(np.int64), spare - tests)
    rank = _rank_from_end(events) if rank is None else rank
    tests, held = np.repeat(tests, lengths), np.repeat(tests + valids, lengths)
    return np.where(rank < tests, TEST, np.where(rank < held, VALID, TRAIN)).astype(np.uint8)


def _rank_from_end(events: Jagged) -> npt.NDArray[np.int64]:
    return np.repeat(events.offsets[1:], events.lengths) - 1 - np.arange(len(events.values))


def _random_rank(events: Jagged, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """(T,) a random rank of each event inside its user, that depends on the user's hash alone."""
    owner = events.row_of()
    position = np.arange(len(owner)) - events.offsets[:-1][owner]
    noise = _mix(hashes[owner] + position.astype(np.uint64) * _STEP)
    rank = np.empty(len(owner), dtype=np.int64)
    rank[np.lexsort((noise, owner))] = position
    return rank


def _by_users(events: Jagged, shares: tuple[float, float, float], uniform: npt.NDArray[np.float64]) -> Labels:
    """Held-out users: the last event is the target, what was before it is context. Others train throughout."""
    label = np.where(uniform < shares[0], TRAIN, np.where(uniform < shares[0] + shares[1], VALID, TEST)).astype(
        np.uint8
    )
    label[events.lengths < 2] = TRAIN
    labels = np.repeat(np.where(label == TRAIN, TRAIN, CONTEXT).astype(np.uint8), events.lengths)
    held = np.flatnonzero(label != TRAIN)
    labels[events.offsets[1:][held] - 1] = label[held]
    return labels


def _by_time(times: npt.NDArray[np.float64], cuts: tuple[float, float]) -> Labels:
    """Two moments for all users; events at the same moment fall on the same side."""
    return np.where(times < cuts[0], TRAIN, np.where(times < cuts[1], VALID, TEST)).astype(np.uint8)


def draw_valid(labels: Labels, events: Jagged, ordered: bool, hashes: npt.NDArray[np.uint64]) -> Labels:
    """Turn about a tenth of each user's training events into valid: the last ones, or random ones without an order.

    A user with one training event keeps it; others give at least one. hashes: (users,) `user_hashes` for "rank".
    """
    train = events.where(labels == TRAIN)
    counts = np.maximum(np.floor(train.lengths * VALID_SHARE + 0.5), 1).astype(np.int64)
    counts[train.lengths < 2] = 0
    rank = _rank_from_end(train) if ordered else _random_rank(train, hashes)
    drawn = labels.copy()
    drawn[np.flatnonzero(labels == TRAIN)[rank < np.repeat(counts, train.lengths)]] = VALID
    return drawn


def certifying(users: Vocabulary, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """(users,) the users that only certify: a stable function of id and seed, whatever else is in the data."""
    if not 0 <= share <= 1:
        raise InputError(f"certify={share} must lie between 0 and 1")
    return stable_uniform(users, seed, "certify") < share


_STEP = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0x100000001B3)


def stable_uniform(users: Vocabulary, seed: int, purpose: str) -> npt.NDArray[np.float64]:
    """(users,) numbers in [0, 1) that depend on the external id, the seed and the purpose alone."""
    return _uniform(user_hashes(users, seed, purpose))


def _uniform(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    return (hashes >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def user_hashes(users: Vocabulary, seed: int, purpose: str) -> npt.NDArray[np.uint64]:
    """(users,) random bits that depend on the external id, the seed and the purpose alone."""
    salt = _mix(_text_hash(np.frombuffer(f"{purpose}:{seed}".encode(), np.uint8)))
    tensors = users.tensors()
    if "ids" in tensors:
        return _mix(tensors["ids"].view(np.uint64) * _STEP + salt)
    return _mix(_text_hashes(tensors["bytes"], tensors["offsets"]) + salt)


def _text_hashes(raw: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A polynomial in the bytes of each text, modulo 2^64."""
    lengths = np.diff(offsets)
    powers = np.ones(int(lengths.max(initial=0)) + 1, dtype=np.uint64)
    powers[1:] = _PRIME
    powers = np.multiply.accumulate(powers)
    position = np.arange(len(raw)) - np.repeat(offsets[:-1], lengths)
    terms = np.zeros(len(raw) + 1, dtype=np.uint64)
    np.cumsum((raw.astype(np.uint64) + np.uint64(1)) * powers[position], out=terms[1:])
    return terms[offsets[1:]] - terms[offsets[:-1]] + lengths.astype(np.uint64) * _STEP


def _text_hash(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    return _text_hashes(raw, np.array([0, len(raw)], dtype=np.int64))


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
