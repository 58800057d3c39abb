"""The other engines refuse arrays that do not fit together, as the transformer's does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from leanrec.core.errors import BundleError
from leanrec.nn.blocks import GRU, HSTU, Caser
from leanrec.runtime.engines import ENGINES

_ITEMS = np.ones((5, 4), np.float32)
_KINDS: dict[str, tuple[dict[str, Any], nn.Module]] = {
    "hstu": (
        {"dim": 4, "layers": 2, "heads": 2, "max_length": 3, "timed": True},
        HSTU(dim=4, layers=2, heads=2, max_length=3, dropout=0.0, timed=True),
    ),
    "gru": ({"dim": 4, "layers": 2, "hidden": 6, "max_length": 3}, GRU(dim=4, layers=2, hidden=6, dropout=0.0)),
    "caser": (
        {"dim": 4, "window": 3, "filters": 2, "vertical": 5},
        Caser(dim=4, window=3, filters=2, vertical=5, dropout=0.0),
    ),
}
_ALL = [(kind, name) for kind, (_, net) in _KINDS.items() for name in net.state_dict()]


def _load(kind: str, changed: dict[str, Any] | None = None, **config: Any) -> None:
    shape, net = _KINDS[kind]
    tensors = {name: value.numpy() for name, value in net.state_dict().items()} | (changed or {})
    ENGINES[kind].load({**shape, **config}, {n: a for n, a in tensors.items() if a is not None}, _ITEMS)


@pytest.mark.parametrize(("kind", "name"), _ALL)
@pytest.mark.parametrize(
    "change",
    [lambda a: a[:-1], lambda a: a[None], lambda a: a.astype(np.float64), lambda a: a.ravel()[:0]],
    ids=["shorter", "deeper", "other type", "empty"],
)
def test_misfits_are_refused(kind: str, name: str, change: Callable[[Any], Any]) -> None:
    _load(kind)
    with pytest.raises(BundleError, match="do not have the shape"):
        _load(kind, {name: change(_KINDS[kind][1].state_dict()[name].numpy())})


@pytest.mark.parametrize(("kind", "name"), _ALL)
def test_missing_arrays_are_named(kind: str, name: str) -> None:
    with pytest.raises(BundleError, match="is missing"):
        _load(kind, {name: None})


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("hstu", {"dim": 8}), ("hstu", {"heads": 3}), ("hstu", {"heads": 0}), ("hstu", {"max_length": 4}),
        ("gru", {"dim": 8}), ("gru", {"hidden": 4}), ("gru", {"max_length": 0}), ("gru", {"layers": 0}),
        ("caser", {"dim": 8}), ("caser", {"filters": 3}), ("caser", {"vertical": 4}), ("caser", {"window": 2}),
    ],
)  # fmt: skip
def test_another_configuration_is_refused(kind: str, config: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="do not have the shape"):
        _load(kind, **config)
