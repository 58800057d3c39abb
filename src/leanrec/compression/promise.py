"""Which candidate keeps the promise: looked at one by one, cheapest first, with a certificate for each look.

Every look at the certifying users may go wrong with some probability; the shares of all looks sum up to alpha, so that
the whole procedure returns a plan whose true loss is above the bound with probability at most alpha, whatever the
candidates are and however the search chose them. The first look gets three quarters of alpha, each further one a
quarter of what the one before it had: the candidate that the search believes in is judged almost as sharply as if it
were alone.

A candidate whose every step gives the same answers by proof needs no users, and no alpha.

Looks of earlier runs count: a new look has the share after theirs, and a candidate that was looked at keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from leanrec.compression.quality import Quality

__all__ = ["Look", "Verdict", "alpha_of_look", "keep_promise"]

T = TypeVar("T")
_FIRST = 0.75
LOOKS = 4


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate judged. kept: "proof", "certificate", "broken" or "undecided"; users_needed: that would decide."""

    candidate: int
    kept: str
    alpha: float
    quality: Quality | None = None
    users_needed: int | None = None


class Verdict(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """chosen: the first candidate that keeps the promise, None where none does. looks: what was judged, in order."""

    chosen: T | None
    looks: list[Look]

    @property
    def undecided(self) -> bool:
        """Whether more users could bring a candidate through."""
        return self.chosen is None and any(look.users_needed is not None for look in self.looks)

    @property
    def users_needed(self) -> int | None:
        """The fewest that would decide for one of the candidates."""
        return min((look.users_needed for look in self.looks if look.users_needed is not None), default=None)


def alpha_of_look(alpha: float, look: int) -> float:
    """The share of alpha that look 0, 1, ... may spend; all of them sum up to alpha."""
    return alpha * _FIRST * (1 - _FIRST) ** look


def keep_promise(
    candidates: Sequence[T],
    judge: Callable[[T, float], Quality],
    *,
    bound: float,
    alpha: float,
    proven: Callable[[T], bool] = lambda _: False,
    looks: int = LOOKS,
    earlier: Callable[[T], float | None] = lambda _: None,
    spent: int = 0,
) -> Verdict[T]:
    """Judge candidates in order until one keeps a loss of at most `bound`, or the looks are used up.

    judge: a candidate and its alpha to its quality on users that nothing was tuned on. looks: of this run. earlier: the
    share of a look that was already taken at a candidate, which is no new one. spent: how many of these there are.
    """
    found: list[Look] = []
    for place, candidate in enumerate(candidates):
        known = earlier(candidate)
        share = alpha_of_look(alpha, spent) if known is None else known
        if proven(candidate):
            found.append(Look(candidate=place, kept="proof", alpha=share))
            return Verdict(chosen=candidate, looks=found)
        if len(found) == looks:
            continue  # a later one may still be proven
        spent += known is None
        quality = judge(candidate, share)
        certificate = quality.certificate
        kept = "certificate" if certificate.holds(bound) else "broken" if certificate.broken(bound) else "undecided"
        needed = certificate.users_needed(bound) if kept == "undecided" else None
        found.append(Look(candidate=place, kept=kept, alpha=share, quality=quality, users_needed=needed))
        if kept == "certificate":
            return Verdict(chosen=candidate, looks=found)
    return Verdict(chosen=None, looks=found)
