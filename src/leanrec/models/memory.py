"""The memory that training a sequence model needs, from its configuration and the data's sizes, before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from leanrec.core.config import build
from leanrec.data.dataset import Dataset
from leanrec.nn.packing import Packed
from leanrec.nn.tables import TABLES, make_table
from leanrec.training.memory import Line, MemoryNeed
from leanrec.training.objectives import OBJECTIVES

if TYPE_CHECKING:
    from leanrec.models.sequential import SequenceConfig, SequenceModel

__all__ = ["memory_need"]

_FEW_ROWS, _MORE_ROWS = 4096, 12288
_MAP_BYTES_A_ROW = 12
"""Of a table on disk: which row stands where."""
_UNBOUNDED = 1 << 50
_LIBRARIES = 90 << 20
"""Compiled loops, threads and scratch that come with the first steps."""
_TRANSIENT = 1.3
"""Gradients on their way back beside the activations they replace."""
_VALIDATION = 70 << 20
"""Blocks of users, their histories, lists and scores: bounded whatever the catalogue."""


def memory_need(model: SequenceModel[Any], config: SequenceConfig, data: Dataset, *, saved: bool) -> MemoryNeed:
    """For a resolved configuration, beside what the process holds already. saved: the run has a folder."""
    assert config.max_length is not None and config.ema is not None, "a resolved configuration"
    items, dim = len(data.items), config.dim
    net = model.network(config)
    weights = _nbytes(net.parameters())
    values = 4 * items * dim
    table, stored = _table_bytes(config, items)
    average = (values + 8 * items + weights) if config.ema else 0
    state = table + 3 * weights + average + stored
    rows = -(-(config.batch_tokens + config.max_length) // config.max_length)
    rows = -(-rows // config.accumulate)
    full = OBJECTIVES[config.objective].full
    touched = items if full else min(items, 2 * config.batch_tokens + config.negatives)
    predictions = rows * config.max_length
    scores = 3 * 4 * predictions * (min(items, 1 << 15) if full else config.negatives + 1)
    activations = rows * _activations_a_row(net, config, weights, times=model.times)
    casts = 0 if config.precision == "float32" else weights // 2
    exported = 0 if config.table in ("dense", "bfloat16") else values
    stays = [
        Line("rows of the item table and their optimiser's state", table),
        Line("the network", weights),
        Line("the network that was built to foresee this", weights),  # the allocator keeps what it took
        Line("its gradients and Adam's moments", 3 * weights),
        Line("averages of the weights", average),
        Line("sequences and the batches made ahead", _loader_bytes(config, data)),
        Line("places of rows in a batch", 4 * items),
        Line("compiled code and threads", _LIBRARIES),
        Line("the best state, kept in memory", 0 if saved else state),
    ]
    passing = [
        Line("a step: activations, scores, touched rows", activations + scores + casts + 3 * 4 * touched * dim),
        Line("validation", _VALIDATION + exported + 8 * items),
        Line("writing the bundle", exported + 2 * 4 * items * dim if saved else 0),
    ]
    disk = [Line("checkpoints, last and best", 3 * state), Line("bundle", 2 * (4 * items * dim + weights))]
    if stored:
        disk.append(Line("the table's own file", stored))
    return MemoryNeed(
        stays=[line for line in stays if line.bytes],
        passing=passing,
        disk=disk if saved else [],
        remedies=_remedies(config, table, activations + scores),
    )


def _remedies(config: SequenceConfig, table: int, step: int) -> list[str]:
    small = ["batch_tokens=...", *(["checkpoint=true"] if hasattr(config, "checkpoint") else [])]
    lean = ["table=mapped"] if config.table == "dense" else []
    return [*lean, "dim=...", *small] if table > step else [*small, "dim=...", *lean]


def _nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _table_bytes(config: SequenceConfig, items: int) -> tuple[int, int]:
    """Bytes of values and optimiser state in memory, and on disk if they stand there: from two small tables."""
    few, more = min(items, _FEW_ROWS), min(items, _MORE_ROWS)
    at_few, at_more = _made(config, few), _made(config, more)
    whole = at_more + (items - more) * (at_more - at_few) // max(more - few, 1)
    if config.table != "mapped":
        return whole, 0
    options = build(TABLES["mapped"].Options, config.table_options)
    return min(whole, getattr(options, "memory", whole) + _MAP_BYTES_A_ROW * items), whole


def _made(config: SequenceConfig, rows: int) -> int:
    options = {**config.table_options, **({"memory": _UNBOUNDED} if config.table == "mapped" else {})}
    table = make_table(config.table, rows, config.dim, options=options)
    try:
        return table.nbytes
    finally:
        table.close()


def _loader_bytes(config: SequenceConfig, data: Dataset) -> int:
    """Training events (and their times), per-user and per-window numbers, histories to validate, batches ahead."""
    assert config.max_length is not None
    lengths = data.train().lengths
    windows = int((lengths // config.max_length + 2).sum())
    events = int(lengths.sum())
    ahead = 4 * (config.batch_tokens + config.max_length) * 40
    return events * 20 + len(lengths) * 64 + windows * 80 + len(data.interactions) * 9 + ahead


def _activations_a_row(net: nn.Module, config: SequenceConfig, weights: int, *, times: bool) -> int:
    """Bytes kept for the backward pass by one row of `max_length` slots: counted while one row runs."""
    length = config.max_length
    assert length is not None
    parameters = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    items_RLD = torch.zeros(1, length, config.dim, requires_grad=True)
    position_RL = torch.arange(length)[None]
    segment_RL = (position_RL >= length // 2).long()
    times_RL = torch.zeros(1, length, dtype=torch.float64) if times else None
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        out = net(items_RLD, Packed(segment_RL, position_RL, False, times_RL))
    del out
    return int(sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) * _TRANSIENT)
