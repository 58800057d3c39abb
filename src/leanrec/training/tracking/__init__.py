"""Where a run's figures go: one contract (`base.Tracker`), one file per service, chosen by name from `TRACKERS`."""

from collections.abc import Sequence
from pathlib import Path

from leanrec.core.registry import Entry, Registry
from leanrec.training.tracking.base import Everywhere, Tracker

__all__ = ["TRACKERS", "Tracker", "open_trackers"]

TRACKERS: Registry[Tracker] = Registry(
    "tracker",
    {
        "tensorboard": Entry(
            "leanrec.training.tracking.tensorboard:TensorBoard", "event files in the run folder", "train"
        ),
        "mlflow": Entry("leanrec.training.tracking.mlflow:MLflow", "a server, or SQLite in the run folder", "track"),
        "wandb": Entry(
            "leanrec.training.tracking.wandb:WeightsAndBiases", "the service, or offline in the run folder", "track"
        ),
    },
)


def open_trackers(names: Sequence[str], run: Path | None, name: str) -> Tracker:
    """Those trackers as one, for the model `name`; a run without a folder is not tracked.

    An unknown name is a ConfigError with the nearest, a package that is not there a MissingExtra.
    """
    return Everywhere([kind(run, name) for kind in [TRACKERS[n] for n in dict.fromkeys(names)]] if run else [])
