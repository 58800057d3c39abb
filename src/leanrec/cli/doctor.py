"""`leanrec doctor`."""

from __future__ import annotations

from pathlib import Path

from leanrec.cli.options import Json, Settings
from leanrec.cli.output import emit
from leanrec.core.console import format_table, say

__all__ = ["doctor"]


def doctor(
    model: str | None = None,
    /,
    *,
    data: Path | None = None,
    config: Path | None = None,
    settings: Settings = (),
    workers: int = 1,
    json: Json = False,
) -> int:
    """Say what this machine has, what is missing, and the command that helps; of a model, the memory training takes; of
    a bundle, the memory serving takes, part by part.

    Args:
        model: A name from `leanrec models`: foresee its memory on --data, line by line, before anything is started. Or
            the path of a bundle or a run folder: account for the memory of a process that answers from it.
        data: A folder written by `leanrec prepare`.
        config: A TOML file of the model's settings.
        settings: One setting, above the file's; may stand several times.
        workers: Processes on this machine that are to train together.
    """
    if model is not None and Path(model).exists():
        return _account(Path(model), json)
    if model is not None:
        return _foresee(model, data, config, settings, workers, json)
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


def _account(bundle: Path, json: bool) -> int:
    import msgspec

    from leanrec.core.machine import human
    from leanrec.jobs.footprint import footprint

    found = footprint(bundle)
    rows = [(part.name, human(part.bundle_bytes), human(part.private), human(part.shared)) for part in found.parts]
    stored = sum(part.bundle_bytes for part in found.parts)
    rows.append(("together", human(stored), human(found.private), human(found.shared)))
    table = format_table((found.id[:12], "in the bundle", "private", "shared"), rows)
    totals = {"bundle": str(bundle), "private": found.private, "shared": found.shared}
    return emit(table, {**totals, **msgspec.to_builtins(found)}, json)


def _foresee(
    model: str, data: Path | None, config: Path | None, settings: tuple[str, ...], workers: int, json: bool
) -> int:
    import msgspec

    from leanrec.core.config import load_toml, parse_overrides
    from leanrec.core.errors import InputError
    from leanrec.core.machine import human
    from leanrec.jobs.foresee import ForeseeJob, foresee

    if data is None:
        raise InputError(f"doctor {model} needs --data DIR: what training takes depends on the data")
    asked = {**(load_toml(config) if config else {}), **parse_overrides(settings)}
    found = foresee(ForeseeJob(model=model, data=str(data), settings=asked, workers=workers))
    need = found.need
    rows = [
        ("the program with its libraries", found.program),
        *((line.what, line.bytes) for line in need.stays),
        *((f"for a while: {line.what}", line.bytes) for line in need.passing),
        ("memory at the peak" + f", {workers} workers" * (workers > 1), found.memory),
        ("  free", found.memory_free),
        *((f"on disk: {line.what}", line.bytes) for line in need.disk),
        ("disk", found.disk),
        ("  free", found.disk_free),
    ]
    table = format_table((model, "bytes"), [(what, human(count)) for what, count in rows])
    fits = {"fits": found.fits, "memory_bytes": found.memory, "memory_free_bytes": found.memory_free}
    emit(table, {**fits, "disk_bytes": found.disk, **msgspec.to_builtins(found)}, json)
    if not found.fits:
        say(f"leanrec: this does not fit: make it smaller with --set {', '.join(need.remedies)}")
        return 3
    return 0
