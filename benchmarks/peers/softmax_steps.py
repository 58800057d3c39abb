"""Full-softmax loss, forward and backward: `softmax_steps.py SIDE ITEMS STEPS` with SIDE torch or cut-cross-entropy.

Imports nothing of leanrec, so that it runs in a peer's environment too. Prints seconds of the last step, peak bytes
beyond the inputs, and the loss. Nothing but torch: what a step needs above the inputs is the loss's alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch

TOKENS, DIM = 2048, 64
WARM_ITEMS = 4096

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def inputs(num_items: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden vectors as a layer norm gives them, a fresh table, targets; made in place: nothing else is ever held."""
    generator = torch.Generator().manual_seed(0)
    hidden_TD = torch.empty(TOKENS, DIM).normal_(generator=generator)
    items_ND = torch.empty(num_items, DIM).normal_(std=DIM**-0.5, generator=generator)
    return hidden_TD, items_ND, torch.randint(0, num_items, (TOKENS,), generator=generator)


def step(loss: Loss, hidden_TD: torch.Tensor, items_ND: torch.Tensor, targets_T: torch.Tensor) -> float:
    """Forward and backward on fresh leaves."""
    value = loss(hidden_TD.detach().requires_grad_(), items_ND.detach().requires_grad_(), targets_T)
    value.backward()  # type: ignore[no-untyped-call]
    return float(value.detach())


def measure(loss: Loss, num_items: int, steps: int) -> dict[str, float]:
    """After a small problem that compiles and loads what there is to: seconds of the last step, bytes, the loss."""
    for _ in range(2):
        step(loss, *inputs(WARM_ITEMS))
    given = inputs(num_items)
    before = _memory("VmRSS")
    for _ in range(steps):
        start = time.perf_counter()
        value = step(loss, *given)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": _memory("VmHWM") - before, "loss": value}


def _memory(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(name))


def main() -> None:
    side, num_items, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if side == "torch":

        def loss(hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(hidden @ items.T, targets)
    else:
        from cut_cross_entropy import linear_cross_entropy

        def loss(hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return linear_cross_entropy(hidden, items, targets, impl="torch_compile")

    print(json.dumps(measure(loss, num_items, steps)))


if __name__ == "__main__":
    main()
