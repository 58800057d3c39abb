"""Two towers over ids, histories and attributes."""

from __future__ import annotations

from .contract import ModelContract

_SMALL = {"dim": 8, "epochs": 3, "negatives": 16, "batch": 64}


class TestTwoTower(ModelContract):
    model = "two-tower"
    settings = _SMALL


class TestTwoTowerMean(ModelContract):
    model = "two-tower"
    settings = {**_SMALL, "pooling": "mean"}  # noqa: RUF012
