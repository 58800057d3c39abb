"""Factorisation machine (Rendle 2010): one weight a value, and the inner products of all pairs of fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from leanrec.features.batch import Layout
from leanrec.models.ctr import NetworkConfig, NetworkModel
from leanrec.nn.ctr import Step, step

__all__ = ["FM", "FMConfig"]


class FMConfig(NetworkConfig, frozen=True, kw_only=True):
    """Without hidden layers: `widths` and `dropout` do not matter."""


class FM(NetworkModel[FMConfig]):
    """Weights of values and products of pairs."""

    name: ClassVar[str] = "fm"
    Config = FMConfig

    def plan(self, layout: Layout, tasks: int) -> Sequence[Step]:
        return [step("second", "pairs", "fields"), step("logit", "sum", "first", "second")]
