"""The models of who has what: the contract for each of them."""

from __future__ import annotations

from typing import Any, ClassVar

from .contract import ModelContract

_SMALL = {"dim": 16, "epochs": 20, "batch": 32}


class TestBPRMF(ModelContract):
    model = "bpr-mf"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "batch": 256}


class TestLightGCN(ModelContract):
    model = "lightgcn"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "negatives": 16}


class TestLightGCNByPairs(ModelContract):
    model = "lightgcn"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "objective": "bpr"}


class TestSimpleX(ModelContract):
    model = "simplex"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "negatives": 16}


class TestUltraGCN(ModelContract):
    model = "ultragcn"
    settings: ClassVar[dict[str, Any]] = {**_SMALL, "negatives": 16}
