"""What lies between the matrix products of a gated recurrent unit, beside its NumPy reference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leanrec.kernels.jit import jit_fast

__all__ = ["advance", "advance_reference"]

F32 = npt.NDArray[np.float32]


@jit_fast
def advance(inputs_BE: F32, recurrent_BE: F32, state_BH: F32) -> None:
    """One step, state in place. inputs, recurrent: (B, 3 H) reset, update and new, as torch.nn.GRU orders them."""
    batch, hidden = state_BH.shape
    one = np.float32(1.0)
    for b in range(batch):
        for h in range(hidden):
            reset = one / (one + np.exp(-(inputs_BE[b, h] + recurrent_BE[b, h])))
            update = one / (one + np.exp(-(inputs_BE[b, hidden + h] + recurrent_BE[b, hidden + h])))
            fresh = np.tanh(inputs_BE[b, 2 * hidden + h] + reset * recurrent_BE[b, 2 * hidden + h])
            state_BH[b, h] = (one - update) * fresh + update * state_BH[b, h]


def advance_reference(inputs_BE: F32, recurrent_BE: F32, state_BH: F32) -> None:
    (i_r, i_z, i_n), (r_r, r_z, r_n) = np.split(inputs_BE, 3, axis=1), np.split(recurrent_BE, 3, axis=1)
    reset, update = 1 / (1 + np.exp(-(i_r + r_r))), 1 / (1 + np.exp(-(i_z + r_z)))
    state_BH[:] = (1 - update) * np.tanh(i_n + reset * r_n) + update * state_BH
