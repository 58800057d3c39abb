"""`leanrec tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from leanrec.cli.options import DataFolder, Flag, Json, Seconds, Settings, Texts
from leanrec.cli.output import emit

__all__ = ["tune"]

Searches = Annotated[
    tuple[str, ...],
    Parameter(name="--search", n_tokens=1, negative=(), metavar="KEY=LOW..HIGH|A,B,...", show_default=False),
]


def tune(
    model: str,
    /,
    *,
    data: DataFolder,
    out: Path,
    trials: int = 20,
    metric: str = "ndcg@10",
    objectives: Texts = (),
    time: Seconds = None,
    config: Path | None = None,
    settings: Settings = (),
    search: Searches = (),
    sampler: Literal["tpe", "evolutionary", "random"] = "tpe",
    workers: int = 1,
    cluster: str | None = None,
    refit: Flag = False,
    seed: int = 0,
    resume: Flag = False,
    json: Json = False,
) -> int:
    """Search a model's settings on validation, then train the best: OUT/best is a run folder like any other.

    Args:
        model: A name from `leanrec models`.
        out: The folder of the search: journal, trials.csv, best.toml, best/.
        trials: How many settings to try.
        metric: What to make large, on validation events of users that tune.
        objectives: Several at once: a metric first, then metrics, seconds (of training) or bytes (of the bundle).
        time: Stop searching after this much; training the best comes after it.
        config: A TOML file of settings that are fixed.
        settings: One setting that is fixed, above the file's; may stand several times.
        search: What to try for one setting, above the model's own ranges; may stand several times.
        sampler: tpe learns from what was tried, evolutionary crosses the best (NSGA-II), random does neither.
        workers: Trials side by side, each in a process of its own with its share of the cores.
        cluster: Run the trials on this Ray cluster; `local` starts one here.
        refit: Train the best settings on train and validation in the end.
        seed: Everything random follows from it.
        resume: Go on with the interrupted search in --out.
    """
    import msgspec

    from leanrec.core.config import load_toml, parse_overrides
    from leanrec.core.console import format_table
    from leanrec.core.errors import MissingExtra

    try:
        from leanrec.jobs.tune import TuneJob
        from leanrec.jobs.tune import tune as carry_out
    except ModuleNotFoundError as error:
        raise MissingExtra("train", str(error.name), "leanrec tune") from error

    found = carry_out(
        TuneJob(
            model=model,
            data=str(data),
            out=str(out),
            trials=trials,
            objectives=objectives or (metric,),
            settings={**(load_toml(config) if config else {}), **parse_overrides(settings)},
            search=search,
            sampler=sampler,
            seed=seed,
            time_limit=time,
            refit=refit,
            resume=resume,
            workers=workers,
            cluster=cluster,
        )
    )
    columns = [name for name in found.pareto[0] if name not in ("state", "error")]
    rows = [[_cell(row.get(name)) for name in columns] for row in found.pareto]
    lines = [
        format_table(columns, rows),
        "",
        f"{found.trials} trials, {found.pruned} stopped early, {found.failed} failed: {out / 'trials.csv'}",
        f"best settings: {out / 'best.toml'}; trained with them: {found.run}",
    ]
    return emit("\n".join(lines), msgspec.to_builtins(found), json)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
