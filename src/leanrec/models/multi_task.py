"""Several labels at once, such as click and conversion: each on its own, or each given the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from leanrec.core.errors import ConfigError
from leanrec.data.dataset import Dataset
from leanrec.features.batch import Layout
from leanrec.models.ctr import NetworkConfig, NetworkModel
from leanrec.nn.ctr import Step, step

__all__ = ["MultiTask", "MultiTaskConfig"]


class MultiTaskConfig(NetworkConfig, frozen=True, kw_only=True):
    """The first label decides when to stop, and is what `recommend` ranks by."""

    labels: Mapping[str, str] = {}
    """Name -> condition, in order: labels={click="value>=3", conversion="value>=5"}. Logged rows bring their own."""
    chained: bool = True
    """Each label is only true where the one before is (ESMM, Ma et al. 2018): a conversion is a click."""
    experts: int = 4
    """Of the mixture that the tasks share (MMoE, Ma et al. 2018)."""
    expert_width: int = 64


class MultiTask(NetworkModel[MultiTaskConfig]):
    """Shared layers, a mixture of experts with a gate for each task, and a logit each."""

    name: ClassVar[str] = "multi-task"
    Config = MultiTaskConfig
    multiple = True

    def labels(self, data: Dataset) -> Mapping[str, str]:
        if len(self.config.labels) > 1:
            return self.config.labels
        raise ConfigError(
            f'{self.name} needs at least two labels: say labels={{click="value>=3", conversion="value>=5"}}'
        )

    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        config = self.config
        steps = [
            step("deep", "mlp", "flat", widths=config.widths, dropout=config.dropout),
            step("tasks", "experts", "deep", experts=config.experts, width=config.expert_width, tasks=tasks),
        ]
        return [*steps, step("logit", "chain", "tasks")] if config.chained else steps
