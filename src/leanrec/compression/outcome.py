"""What a search came to, in words, tables and files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from leanrec.compression.budget import Budget, Price
from leanrec.compression.ladder import Rung, ladder_table
from leanrec.compression.measure import busy
from leanrec.compression.promise import Look, Verdict
from leanrec.compression.quality import Quality
from leanrec.core.files import atomic_write
from leanrec.runtime.recommender import Recommender

__all__ = ["Optimised", "impossible", "kept", "undecided", "write_outcome"]

_NEAREST = 3


class Optimised(msgspec.Struct, kw_only=True):
    """rows: all plans measured. front: those that no other beats on everything. ladder: the chosen one step by step.

    data: the name of the data set. alpha: the probability that the promise is wrong. again: share of the questions that
    were asked shortly before.
    cut: where the time ran out, as `sentence` says too.
    """

    before_id: str
    budget: Budget
    price: Price
    singles: list[Rung]
    rows: list[Rung]
    front: list[Rung]
    ladder: list[Rung]
    candidates: list[Rung]
    looks: list[Look]
    chosen: Rung | None
    sentence: str
    metric_users: int
    data: str = ""
    alpha: float | None = None
    again: float = 0.0
    cut: list[str] = []
    quality: Quality | None = None
    lean: Any = None

    @property
    def recommender(self) -> Recommender:
        """The lean one; there is none where no plan keeps the budget."""
        assert isinstance(self.lean, Recommender)
        return self.lean

    @property
    def doubts(self) -> list[str]:
        """Why figures may be those of other programs, where they may."""
        return busy(
            [one.measured.busy for one in [*self.singles, *self.rows, *self.ladder] if one.measured is not None]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the recommender apart."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "lean"}
        plain: dict[str, Any] = msgspec.to_builtins(fields)
        return plain

    def __str__(self) -> str:
        table = ladder_table(self.ladder or self.singles, self.budget.metric, self.price.currency)
        chosen = () if self.chosen is None else self.chosen.plan
        dropped = [
            f"dropped: {one.name}: {one.said}" for one in self.singles[1:] if not one.pays and one.plan[0] not in chosen
        ]
        quality = self.quality.sentences() if self.quality is not None else []
        proven = ["every step gives the same answers by proof: nothing is lost on any user"] * (
            bool(self.looks) and self.looks[-1].kept == "proof"
        )
        return "\n".join([table, *dropped, self.sentence, *self.doubts, *quality, *proven])


def kept(budget: Budget, rows: Sequence[Rung], chosen: Rung) -> str:
    """One sentence: what was found, or that nothing was won."""
    if chosen.plan:
        return f"{chosen.name} is the cheapest of {len(rows)} measured plans that keeps: {budget}"
    rest = len(rows) - 1
    others = (
        f"none of {rest} other plans measured is cheaper and surely keeps it" if rest else "no plan could be measured"
    )
    return f"nothing was won: the bundle as it was keeps {budget}, and {others}"


def impossible(budget: Budget, rows: Sequence[Rung]) -> str:
    """One sentence: what cannot be kept, and the points that come nearest to it."""
    known = [(one, one.figures) for one in rows if one.figures is not None]
    nearest = sorted(known, key=lambda one: sum(max(0.0, excess) for excess in one[1].excess(budget)))[:_NEAREST]
    spare = "5 % of p99 and 3 % of memory to spare"
    points = "; ".join(f"{one.name}: {figures.said(budget)}" for one, figures in nearest)
    return f"none of {len(known)} measured plans keeps the budget ({budget}) with {spare}; the nearest: {points}"


def undecided(budget: Budget, candidates: Sequence[Rung], verdict: Verdict[Rung]) -> str:
    """One sentence: what the certifying users could not decide, and how many could."""
    look = min(
        (look for look in verdict.looks if look.users_needed is not None), key=lambda look: look.users_needed or 0
    )
    assert look.quality is not None and look.users_needed is not None
    certificate = look.quality.certificate
    return (
        f"{candidates[look.candidate].name} may keep the budget ({budget}), but {certificate.users:,} users cannot "
        f"decide it: they certify a loss of at most {100 * certificate.upper:.2f} %; about {look.users_needed:,} users "
        "would decide, or a larger --max-quality-loss"
    )


def write_outcome(folder: Path, found: Optimised) -> None:
    """points.csv, front.csv, outcome.json and report.html, each all or nothing."""
    from leanrec.compression.page import render

    atomic_write(folder / "points.csv", _csv(found.rows, found))
    atomic_write(folder / "front.csv", _csv(found.front, found))
    atomic_write(folder / "outcome.json", msgspec.json.format(msgspec.json.encode(found.to_dict()), indent=1))
    atomic_write(folder / "report.html", render(found).encode())


def _csv(rows: Sequence[Rung], found: Optimised) -> bytes:
    text = io.StringIO()
    names = ["loss", "p50_ms", "p99_ms", "memory", "size", "cost"]
    writer = csv.writer(text)
    writer.writerow(["plan", "chosen", *names, "agreement", "exact"])
    for one in rows:
        figures = [getattr(one.figures, name) for name in names]
        writer.writerow([one.name, int(one is found.chosen), *figures, one.agreement, one.exact])
    return text.getvalue().encode()
