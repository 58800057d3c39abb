"""`leanrec doctor`."""

from __future__ import annotations

from leanrec.cli.options import Json
from leanrec.cli.output import emit
from leanrec.core.console import format_table, say

__all__ = ["doctor"]


def doctor(*, json: Json = False) -> int:
    """Say what this machine has, what is missing, and the command that helps."""
    import msgspec

    from leanrec.jobs.doctor import diagnose

    found = diagnose()
    facts = found.facts
    rows = [(c.name, "ok" if c.fine else "MISSING" if c.required else "absent", c.seen) for c in found.checks]
    lines = [
        f"Python {facts['python']} on {facts['platform']}",
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_bytes'] / 2**30:.1f} GiB"
        f" ({', '.join(facts['cpu_features']) or 'no vector extensions known'})",
        "",
        format_table(("", "state", "seen"), rows, text=(0, "state", "seen")),
        *(f"{c.name}: {c.remedy}" for c in found.checks if c.remedy),
    ]
    emit("\n".join(lines), {"healthy": found.healthy, **msgspec.to_builtins(found)}, json)
    if not found.healthy:
        say("leanrec: a required package is missing")
        return 3
    return 0
