"""Several models as one."""

from __future__ import annotations

from .contract import ModelContract

_TINY = {"model": "sasrec", "dim": 8, "layers": 1, "heads": 1, "epochs": 2, "max_length": 10, "negatives": 8}


class TestHybridOfThree(ModelContract):
    model = "hybrid"
    settings = {"sources": [_TINY, "item-knn", "popular"], "depth": 20}  # noqa: RUF012


class TestHybridLearned(ModelContract):
    model = "hybrid"
    settings = {"sources": ["item-knn", "popular"], "merge": "learned", "depth": 20}  # noqa: RUF012


class TestHybridWeighted(ModelContract):
    model = "hybrid"
    settings = {"sources": ["item-knn", "popular"], "merge": "weighted", "depth": 20}  # noqa: RUF012
