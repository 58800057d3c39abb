"""Models of labelled rows: the contract for each, the two forms of a linear model, what torch and NumPy say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leanrec.core.errors import ConfigError

from .contract import ModelContract

SMALL: dict[str, Any] = {"epochs": 6, "dim": 4, "widths": (16,), "batch": 128, "lr": 0.01, "negatives": 2}


class TestLinear(ModelContract):
    model = "linear"


class TestLogistic(ModelContract):
    model = "logistic"
    settings = {"passes": 3}  # noqa: RUF012


class TestGBDT(ModelContract):
    model = "gbdt"
    settings = {"trees": 30, "min_rows": 5}  # noqa: RUF012


class TestFM(ModelContract):
    model = "fm"
    settings = SMALL


class TestDNN(ModelContract):
    model = "dnn"
    settings = SMALL


class TestWideDeep(ModelContract):
    model = "wide-deep"
    settings = SMALL


class TestDeepFM(ModelContract):
    model = "deepfm"
    settings = SMALL


class TestDCNv2(ModelContract):
    model = "dcnv2"
    settings = SMALL


class TestDCNv2Mixture(ModelContract):
    model = "dcnv2"
    settings = {**SMALL, "rank": 3, "experts": 2}  # noqa: RUF012


class TestDLRM(ModelContract):
    model = "dlrm"
    settings = SMALL


class TestFinalNet(ModelContract):
    model = "finalnet"
    settings = SMALL


class TestDIN(ModelContract):
    model = "din"
    settings = {**SMALL, "history": 8, "attention": 8}  # noqa: RUF012
