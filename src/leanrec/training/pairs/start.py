"""Where training may start: at the best product of its rank, by who has what, instead of at noise."""

from __future__ import annotations

import numpy as np

from leanrec.kernels.spectrum import Graph, leading
from leanrec.training.pairs.tables import PlainTable

__all__ = ["start_by_product"]

_NOISE = 0.1
_ROUNDS = 3
"""Directions that are found more sharply start no better: on Gowalla worse (docs/log.md)."""


def start_by_product(table: PlainTable, graph: Graph, std: float, seed: int) -> None:
    """Inner products of users and items start as the leading part of S A S, A the interactions normalised by 1 / S.

    Users and items each get a root mean square of `std`; the fresh values of the table stay, a tenth as large.
    """
    vectors_MD, singular_D = leading(graph, table.values_MD.shape[1], seed, _ROUNDS)
    vectors_MD *= np.sqrt(singular_D) / graph.scale_M[:, None]
    table.values_MD *= np.float32(_NOISE)
    for part in (slice(None, graph.num_users), slice(graph.num_users, None)):
        size = float(np.sqrt((vectors_MD[part] ** 2).mean()))
        if size > 0:
            table.values_MD[part] += vectors_MD[part] * np.float32(std / size)
