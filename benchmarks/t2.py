"""T2: full-softmax loss, forward and backward: 2,048 tokens x 500,000 items, d 64, in time and peak memory.

Against torch's cross_entropy and cut-cross-entropy's torch path (its other needs a GPU), by turns, each in a fresh
process. Memory is the peak of the resident set beyond the inputs, without the table's gradient, which all of them give
back. The ratio is that of memory; the gate wants gradients within 1e-4 of float64, for scores of a fresh model and for
peaked ones, and 1.5 times the speed of both. T2_ITEMS sets another size.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.harness import THREADS, Result, paired_ratio
from benchmarks.peers import peer_python, run_timed

ITEMS = int(os.environ.get("T2_ITEMS", 500_000))
ROUNDS = 3
SCRIPT = Path(__file__).parent / "peers" / "softmax_steps.py"
SIDES = ("leanrec", "torch cross_entropy", "cut-cross-entropy")
F64 = npt.NDArray[np.float64]


def run() -> Result:
    """A B C A B C ..."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side in SIDES:
            found[side].append(_child(side))
    errors = json.loads(run_timed([sys.executable, "-m", "benchmarks.t2", "check"])[-1])
    rows, ratios = [_row(SIDES[0], found[SIDES[0]], "", "")], []
    for side in SIDES[1:]:
        pairs = list(zip(found[SIDES[0]], found[side], strict=True))
        memory = paired_ratio([_held(a) for a, _ in pairs], [_held(b) for _, b in pairs])
        speed = paired_ratio([a["seconds"] for a, _ in pairs], [b["seconds"] for _, b in pairs])
        ratios.append((memory, speed[0]))
        rows.append(_row(side, found[side], f"{memory[0]:.1f}", f"{speed[0]:.2f}"))
    (ratio, interval), speed_ratio = min(memory for memory, _ in ratios), min(speed for _, speed in ratios)
    worst = max(error["largest"] for error in errors.values())
    return Result(
        id="T2", ratio=ratio, interval=interval, gate="ok" if worst <= 1e-4 and speed_ratio >= 1.5 else "failed",
        headers=("side", "seconds", "MB without the gradient", "memory ratio", "speed ratio"), rows=rows,
        figures=f"{ratio:.0f}x less memory, {speed_ratio:.1f}x faster, gradient error {worst:.1e}",
        notes=(
            f"{ROUNDS} rounds",
            "{gflops:.0f} GFLOP/s of the {floor:.0f} that a square product reaches".format_map(found[SIDES[0]][0]),
            *(f"{name} scores: gradients within {error['largest']:.1e} of the largest, {error['frobenius']:.1e} by norm"
              for name, error in errors.items()),
        ),
    )  # fmt: skip


def _held(one: dict[str, float]) -> float:
    """Bytes beyond inputs and the table's gradient; a megabyte is the resolution of what is measured."""
    return max(one["bytes"] - 4.0 * ITEMS * 64, 1e6)


def _row(side: str, found: list[dict[str, float]], memory: str, speed: str) -> tuple[str, ...]:
    held = np.median([_held(one) for one in found]) / 1e6
    return side, f"{np.median([one['seconds'] for one in found]):.2f}", f"{held:,.0f}", memory, speed


def _child(side: str) -> dict[str, float]:
    if side == "leanrec":
        command = [sys.executable, "-m", "benchmarks.t2", "ours"]
    else:
        python = peer_python("cut_cross_entropy") if side == "cut-cross-entropy" else sys.executable
        command = [str(python), str(SCRIPT), side.split()[0], str(ITEMS), "1"]
    answer: dict[str, float] = json.loads(run_timed(command)[-1])
    return answer


def _ours() -> dict[str, float]:
    """In the fresh process. The second step: the first also fills the buffers that a run keeps."""
    import time

    import torch

    from benchmarks.peers.softmax_steps import DIM, TOKENS, measure
    from leanrec.training.objectives import Predictions, make_objective

    torch.set_num_threads(THREADS)
    objective, none = make_objective("softmax", {}, ITEMS, 0), torch.empty(0)
    answer = measure(lambda h, w, y: objective.loss(Predictions(h, w, y, none, none)), ITEMS, steps=2)
    a_MM, best = torch.randn(2048, 2048), np.inf
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(a_MM, a_MM)
        best = min(best, time.perf_counter() - start)
    work = 6.0 * TOKENS * ITEMS * DIM
    return {**answer, "gflops": work / answer["seconds"] / 1e9, "floor": 2 * 2048**3 / best / 1e9}


def _check() -> dict[str, dict[str, float]]:
    """In the fresh process: the largest error of a gradient over the gradient's largest value, and that by norm."""
    import torch

    from benchmarks.peers.softmax_steps import inputs
    from leanrec.training.objectives import Predictions, make_objective

    torch.set_num_threads(THREADS)
    errors = {}
    for name, num_items, scale in (("fresh", ITEMS, 1.0), ("peaked", max(ITEMS // 10, 10), 8.0)):
        hidden, items, targets = inputs(num_items)
        leaves = (hidden * scale).requires_grad_(), items.requires_grad_()
        objective, none = make_objective("softmax", {}, num_items, 0), torch.empty(0)
        objective.loss(Predictions(*leaves, targets, none, none)).backward()
        exact = _exact(*(leaf.detach().double().numpy() for leaf in leaves), targets.numpy())
        pairs = [(leaf.grad.numpy(), right) for leaf, right in zip(leaves, exact, strict=True) if leaf.grad is not None]
        errors[name] = {
            "largest": max(float(np.abs(got - right).max() / np.abs(right).max()) for got, right in pairs),
            "frobenius": max(float(np.linalg.norm(got - right) / np.linalg.norm(right)) for got, right in pairs),
        }
    return errors


def _exact(hidden_TD: F64, items_ND: F64, targets_T: npt.NDArray[np.int64]) -> tuple[F64, F64]:
    """Both gradients of the mean cross-entropy by its formula, 32 tokens at a time."""
    grad_hidden, grad_items = np.zeros_like(hidden_TD), np.zeros_like(items_ND)
    off_CN, scratch_ND = np.empty((32, len(items_ND))), np.empty_like(items_ND)
    for low in range(0, len(hidden_TD), 32):
        at = slice(low, low + 32)
        np.matmul(hidden_TD[at], items_ND.T, out=off_CN)
        off_CN -= off_CN.max(axis=1, keepdims=True)
        np.exp(off_CN, out=off_CN)
        off_CN /= off_CN.sum(axis=1, keepdims=True) * len(hidden_TD)
        off_CN[np.arange(32), targets_T[at]] -= 1 / len(hidden_TD)
        grad_hidden[at] = off_CN @ items_ND
        grad_items += np.matmul(off_CN.T, hidden_TD[at], out=scratch_ND)
    return grad_hidden, grad_items


if __name__ == "__main__":
    print(json.dumps(_ours() if sys.argv[1] == "ours" else _check()))
