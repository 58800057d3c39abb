"""A click network as plain values: the steps from embedded fields to logits.

torch trains the steps (nn.ctr.network), NumPy answers with them (runtime.engines.ctr): both read the same plan, and a
step's weights have the same names on both sides.

What a plan starts from, D dimensions a field, F fields:
  fields (B, F, D) a vector of each field; flat (B, F * D) the same, side by side; numbers (B, M) the raw numbers;
  first (B, 1) the sum of one weight per value; target (B, D) the item's vector; history (B, L, D) those of the history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["GIVEN", "Plan", "Step", "step"]

GIVEN = ("fields", "flat", "numbers", "first", "target", "history")


class Step(msgspec.Struct, frozen=True):
    """One operation. name: of its output, which later steps name among their inputs; op: a key of `BLOCKS`."""

    name: str
    op: str
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = {}


Plan = Sequence[Step]
"""The last step gives the logits (B, tasks)."""


def step(name: str, op: str, *inputs: str, **options: Any) -> Step:
    """A Step as one writes it."""
    return Step(name, op, inputs, options)
