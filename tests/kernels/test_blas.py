from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.kernels import blas


def test_threads_are_limited_for_a_while() -> None:
    functions = blas._functions()
    if functions is None:
        pytest.skip("this NumPy brings no OpenBLAS")
    before = functions[0]()
    with blas.blas_threads(1):
        assert functions[0]() == 1
    assert functions[0]() == before


def test_without_openblas_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(np, "__file__", str(tmp_path / "numpy" / "__init__.py"))
    blas._functions.cache_clear()
    try:
        assert blas._functions() is None
        with blas.blas_threads(1):
            blas.limit_blas(2)
    finally:
        blas._functions.cache_clear()
