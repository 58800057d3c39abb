"""`leanrec train`."""

from __future__ import annotations

from pathlib import Path

from leanrec.cli.options import DataFolder, Flag, Json, Seconds, Settings, Texts
from leanrec.cli.output import emit

__all__ = ["train"]


def train(
    model: str,
    /,
    *,
    data: DataFolder,
    out: Path,
    config: Path | None = None,
    settings: Settings = (),
    seed: int = 0,
    time: Seconds = None,
    refit: Flag = False,
    resume: Flag = False,
    metric: str = "ndcg@10",
    track: Texts = ("tensorboard",),
    profile: Flag = False,
    workers: int = 1,
    cluster: str | None = None,
    json: Json = False,
) -> int:
    """Train a model; the run folder holds its bundle, complete at every best checkpoint.

    Args:
        model: A name from `leanrec models`.
        out: The run folder to write; every verb that takes a bundle takes it.
        config: A TOML file of the model's settings.
        settings: One setting, above the file's; may stand several times.
        seed: Everything random follows from it.
        time: Stop after this much training and keep the best so far, for instance 30min.
        refit: After training, train again on train and validation for as long as validation found best.
        resume: Go on with the interrupted run in --out.
        metric: What validation measures, on the users that tune.
        track: Where the figures of the run go: tensorboard (the default), mlflow, wandb.
        profile: Print time and bytes by stage at the end, and keep a trace in OUT/profile.
        workers: Processes that share every step, on this machine unless --cluster says otherwise.
        cluster: Address of a Ray cluster to run the workers on, or local to start one here.
    """
    from leanrec.core.config import load_toml, parse_overrides
    from leanrec.jobs.train import TrainJob
    from leanrec.jobs.train import train as carry_out

    job = TrainJob(
        model=model,
        data=str(data),
        out=str(out),
        settings={**(load_toml(config) if config else {}), **parse_overrides(settings)},
        seed=seed,
        time_limit=time,
        refit=refit,
        resume=resume,
        metric=metric,
        track=track,
        profile=profile,
        workers=workers,
        cluster=cluster,
    )
    recommender = carry_out(job)
    found = {"run": str(out), "bundle": recommender.id, "model": model, "card": dict(recommender.card)}
    return emit(f"{model} {recommender.id[:12]} in {out}", found, json)
