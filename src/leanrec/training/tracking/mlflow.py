"""MLflow: the server that MLFLOW_TRACKING_URI names, or a database in the run folder.

`mlflow ui --backend-store-uri sqlite:///RUN/mlflow.db` shows the latter.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from leanrec.core.errors import MachineError
from leanrec.training.tracking.base import Tracker

__all__ = ["MLflow"]

_EXPERIMENT = "leanrec"
_LONGEST_PARAM = 500


class MLflow(Tracker):
    """One MLflow run, named after the run folder; its id is kept there, so that a resumed run is the same one."""

    def __init__(self, run: Path, name: str) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self._where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.resolve() / 'mlflow.db'}"
        known = run / "mlflow.run"
        with self._reached():
            self._client = MlflowClient(self._where)
            if known.exists():
                self._run: str = known.read_text()
                self._client.update_run(self._run, status="RUNNING")
                return
            experiment = self._client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT))
            number = experiment.experiment_id if experiment else self._create_experiment(run)
            self._run = self._client.create_run(number, run_name=run.name, tags={"model": name}).info.run_id
        known.write_text(self._run)

    def _create_experiment(self, run: Path) -> str:
        here = (run.resolve() / "mlflow").as_uri() if self._where.startswith("sqlite:") else None
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        return str(self._client.create_experiment(name, artifact_location=here))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        with self._reached():
            self._client.log_batch(self._run, metrics=metrics)

    def params(self, values: Mapping[str, Any]) -> None:
        params = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in values.items()]
        with self._reached():
            self._client.log_batch(self._run, params=params)

    def close(self, *, failed: bool = False) -> None:
        with self._reached():
            self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """MLflow's own words about its database stay out of the terminal; a server that is away is one sentence."""
        logger = logging.getLogger("mlflow")
        level = logger.level
        logger.setLevel(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except MlflowException as error:
            raise MachineError(
                f"MLflow at {self._where} does not take the run ({str(error).splitlines()[0]}): "
                "set MLFLOW_TRACKING_URI to one that does, or leave mlflow out of --track"
            ) from error
        finally:
            logger.setLevel(level)
