"""A plan with torch: the field table's leaf and coded rows to logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from leanrec.nn.ctr import BLOCKS
from leanrec.nn.ctr.base import Block, Shape
from leanrec.nn.ctr.plan import Plan

__all__ = ["Network", "Rows"]


@dataclass(frozen=True, slots=True)
class Rows:
    """B rows whose values are places in a leaf (U, D + 1).

    places: (B, C) of the categories. lists: for each list field (T,) places and (B + 1,) offsets. number_places: (M,)
    and numbers: (B, M). target: (B,) and history: (B, L) places with mask: (B, L), or None without one.
    """

    places_BC: Tensor
    lists: tuple[tuple[Tensor, Tensor], ...]
    number_places_M: Tensor
    numbers_BM: Tensor
    target_B: Tensor | None = None
    history_BL: Tensor | None = None
    mask_BL: Tensor | None = None


class Network(nn.Module):
    """The steps of a plan over embedded fields. dim: D, the width of a field; numbers: M; fields: F, all kinds."""

    def __init__(self, plan: Plan, *, dim: int, numbers: int, fields: int) -> None:
        super().__init__()
        self.plan, self.dim = plan, dim
        shapes: dict[str, Shape] = {
            "fields": (fields, dim), "flat": (fields * dim,), "numbers": (numbers,), "first": (1,), "target": (dim,),
            "history": (0, dim),
        }  # fmt: skip
        self.blocks = nn.ModuleDict()
        for step in plan:
            make = cast("Any", BLOCKS[step.op])
            block = make([shapes[name] for name in step.inputs], **step.options)
            self.blocks[step.name] = block
            shapes[step.name] = block.output
        self.tasks = math.prod(shapes[plan[-1].name])

    def forward(self, leaf_UD: Tensor, rows: Rows) -> Tensor:
        """(B, tasks) logits. leaf: (U, D + 1), the last column is the weight of `first`."""
        fields_BFE = embed_fields(leaf_UD, rows)
        values: dict[str, Tensor] = {
            "fields": fields_BFE[:, :, :-1], "first": fields_BFE[:, :, -1].sum(1, keepdim=True),
            "numbers": rows.numbers_BM,
        }  # fmt: skip
        values["flat"] = values["fields"].flatten(1)
        if rows.history_BL is not None and rows.target_B is not None:
            values["target"] = leaf_UD[rows.target_B, :-1]
            values["history"] = leaf_UD[rows.history_BL][:, :, :-1]
        for step in self.plan:
            block = cast("Block", self.blocks[step.name])
            inputs = [values[name] for name in step.inputs]
            if block.masked:
                assert rows.mask_BL is not None
                inputs.append(rows.mask_BL)
            values[step.name] = block(*inputs)
        return values[self.plan[-1].name]

    def arrays(self) -> Mapping[str, Any]:
        """Weights by `step.parameter`, as float32 arrays."""
        return {name: value.detach().numpy().copy() for name, value in self.blocks.state_dict().items()}


def embed_fields(leaf_UD: Tensor, rows: Rows) -> Tensor:
    """(B, F, D + 1): categories, then lists (the mean of their entries, 0 of none), then numbers times their vector."""
    parts = [leaf_UD[rows.places_BC]]
    for places_T, offsets in rows.lists:
        mean = nn.functional.embedding_bag(places_T, leaf_UD, offsets, mode="mean", include_last_offset=True)
        parts.append(mean[:, None])
    if len(rows.number_places_M):
        parts.append(rows.numbers_BM[:, :, None] * leaf_UD[rows.number_places_M])
    return torch.cat(parts, dim=1)
