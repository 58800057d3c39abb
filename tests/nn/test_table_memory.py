"""A table larger than the memory that the system allows, and precisions that reach the same loss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.limits import can_limit_memory, limited_memory
from leanrec.nn.tables import make_table

CHILD = """
import sys, json
import numpy as np, torch
from leanrec.nn.tables import make_table
kind, folder, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
options = {"memory": 16 << 20, "folder": folder} if kind == "mapped" else {}
table = make_table(kind, rows, 64, options=options)
losses = []
for low in range(0, rows, 20_000):  # every row is trained, and so has to be kept somewhere
    wanted = np.arange(low, min(low + 20_000, rows), dtype=np.int32)
    leaf = table.gather(wanted)
    loss = (leaf - 1.0).square().mean()
    loss.backward()
    table.apply(wanted, leaf.grad, 0.1)
    losses.append(float(loss.detach()))
random = np.random.default_rng(0)
for _ in range(20):
    wanted = np.unique(random.integers(0, rows, 500).astype(np.int32))
    leaf = table.gather(wanted)
    loss = (leaf - 1.0).square().mean()
    loss.backward()
    table.apply(wanted, leaf.grad, 0.1)
    losses.append(float(loss.detach()))
print(json.dumps(losses))
"""


@pytest.mark.long
@pytest.mark.skipif(not can_limit_memory(), reason="this process may not make control groups that limit memory")
def test_a_table_larger_than_the_memory_allowed_trains_to_the_same_losses(tmp_path: Path) -> None:
    rows = 600_000  # 460 MB of values and moments
    command = [sys.executable, "-c", CHILD]
    with limited_memory(400 << 20) as group:
        done = subprocess.run(
            [*command, "mapped", str(tmp_path), str(rows)], stdout=subprocess.PIPE, text=True, check=True,
            preexec_fn=group.enter,
        )  # fmt: skip
        assert group.peak() <= 400 << 20
    memory = subprocess.run(
        [*command, "dense", str(tmp_path), str(rows)], stdout=subprocess.PIPE, text=True, check=True
    )
    assert json.loads(done.stdout) == json.loads(memory.stdout)


TOLERANCE = {"bfloat16": 0.02, "split-bfloat16": 0.005, "device": 1e-4, "mapped": 0.0, "bounded": 0.0}
"""How far the loss that training ends at may be from that of float32 rows, relative."""


def _trained(kind: str) -> float:
    """The loss of predicting which of 30 neighbours follows an item, from the rows of a table alone."""
    random, items = np.random.default_rng(0), 300
    table = make_table(kind, items, 16, seed=1)
    losses = []
    for _ in range(200):
        source = random.integers(0, items, 64)
        target = (source + random.integers(1, 30, 64)) % items
        rows, inverse = table.distinct(np.concatenate([source, target]).astype(np.int32))
        leaf = table.gather(rows)
        vectors = leaf[torch.from_numpy(inverse)]
        scores = vectors[:64] @ vectors[64:].T
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(64))
        loss.backward()
        table.apply(rows, leaf.grad, 0.02)
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-50:]))


def test_every_precision_and_place_reaches_the_loss_of_float32_in_memory() -> None:
    dense = _trained("dense")
    assert dense < 0.8 * np.log(64)
    for kind, tolerance in TOLERANCE.items():
        assert abs(_trained(kind) / dense - 1) <= tolerance, kind
