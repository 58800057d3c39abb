"""What preparing did to the raw log: counts, reasons and thresholds, for a person and as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["BotReport", "ColumnReport", "Report"]


class BotReport(msgspec.Struct, kw_only=True):
    """Users whose rate of events stands far outside the rest (see `clean.suspect_bots`)."""

    users: int = 0
    events: int = 0
    threshold: float | None = None
    """Events per active day (per user where there are no times) above which a user is suspected."""
    unit: str = "events per active day"
    dropped: bool = False


class ColumnReport(msgspec.Struct, kw_only=True):
    """One raw column, as seen in at most 50,000 rows of each part."""

    name: str
    side: str
    kind: str
    """number, category, list, time, history, or ignore."""
    why: str
    missing: float
    """Share of training rows without a value."""
    distinct: int
    """Different values (of lists, different entries) among the training rows seen."""
    drift: float | None = None
    """Population stability index of the test part (of the validation part where there is no test) against training:
    below 0.1 nothing has moved, above 0.25 much has. None for ids, histories and where there is nothing to compare."""

    def __str__(self) -> str:
        moved = (
            "" if self.drift is None else f", drift {self.drift:.2f}{' (much has moved)' if self.drift > 0.25 else ''}"
        )
        gaps = f"{100 * self.missing:.1f} % missing, " if self.missing else ""
        return f"{self.name} ({self.side}): {self.kind}, {self.why}; {gaps}{self.distinct:,} different{moved}"


class Report(msgspec.Struct, kw_only=True):
    """Rows read, dropped and why, repaired and how, and the shape of what is left."""

    source: str = ""
    columns: dict[str, str] = msgspec.field(default_factory=dict)
    """Role (user, item, time, value, order, split) -> column read."""
    rows_read: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    """Reason -> rows."""
    repaired: dict[str, int] = msgspec.field(default_factory=dict)
    """Repair -> rows; the rows are kept."""
    duplicates: int = 0
    """Rows with the user, item and time of an earlier one (kept unless dropped)."""
    bots: BotReport = msgspec.field(default_factory=BotReport)
    repeat_share: float = 0.0
    """Share of events whose user already had that item, duplicates apart."""
    events: int = 0
    users: int = 0
    items: int = 0
    first_time: float | None = None
    last_time: float | None = None
    splits: dict[str, int] = msgspec.field(default_factory=dict)
    notes: list[str] = msgspec.field(default_factory=list)
    features: list[ColumnReport] = msgspec.field(default_factory=list)
    """What each raw column beside the ids seems to hold."""

    def count_dropped(self, reason: str, rows: int) -> None:
        if rows:
            self.dropped[reason] = self.dropped.get(reason, 0) + int(rows)

    def count_repaired(self, repair: str, rows: int) -> None:
        if rows:
            self.repaired[repair] = self.repaired.get(repair, 0) + int(rows)

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def __str__(self) -> str:
        lines = [f"read {self.rows_read:,} rows of {self.source}"]
        lines += [f"  dropped {rows:,}: {reason}" for reason, rows in self.dropped.items()]
        lines += [f"  repaired {rows:,}: {repair}" for repair, rows in self.repaired.items()]
        if self.duplicates:
            kept = "dropped" if any("duplicate" in reason for reason in self.dropped) else "kept"
            lines.append(f"  {self.duplicates:,} duplicates (same user, item and time), {kept}")
        if self.bots.users and self.bots.threshold is not None:
            fate = "dropped" if self.bots.dropped else "kept"
            lines.append(
                f"  {self.bots.users:,} users with {self.bots.events:,} events are above "
                f"{self.bots.threshold:,.0f} {self.bots.unit}: suspected bots, {fate}"
            )
        if self.users:
            lines.append(f"kept {self.events:,} events of {self.users:,} users on {self.items:,} items")
        else:
            lines.append(f"kept {self.events:,} rows")
        if self.splits:
            lines.append("  " + ", ".join(f"{name} {rows:,}" for name, rows in self.splits.items()))
        lines += [f"  {note}" for note in self.notes]
        if self.features:
            lines += ["features (guessed):", *(f"  {feature}" for feature in self.features)]
        return "\n".join(lines)
