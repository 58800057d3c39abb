"""Gradient boosted trees by LightGBM (Ke et al. 2017), read out of its dump and served by `kernels.trees`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import lightgbm
import numpy as np
import numpy.typing as npt

from leanrec.core.space import Dimension, Range
from leanrec.features.batch import Layout
from leanrec.models.scoring import Learned, Learning, ScoringModel
from leanrec.runtime.engines.trees import TreeEngine, tree_inputs
from leanrec.training.labelled import Labelled, RowsConfig

__all__ = ["GBDT", "GBDTConfig", "tree_arrays"]

_UNJUDGED = 200
"""Trees at most where no validation row says when to stop."""


class GBDTConfig(RowsConfig, frozen=True, kw_only=True):
    """LightGBM's own names and meanings; defaults version 1."""

    lr: float = 0.05
    leaves: int = 31
    min_rows: int = 20
    """In a leaf."""
    trees: int = 2000
    """At most; validation says how many."""
    patience: int = 50
    """Trees without a better log loss on validation after which boosting stops."""
    columns: float = 0.8
    """Share of the columns that a tree may look at."""
    rows: float = 0.8
    """Share of the rows that a tree sees."""
    l1: float = 0.0
    l2: float = 1.0
    smooth: float = 10.0
    """Rows of other categories that a category's statistics are mixed with (`cat_smooth`)."""

    space: ClassVar[Mapping[str, Dimension]] = {
        "lr": Range(0.01, 0.2, log=True),
        "leaves": Range(7, 127, log=True),
        "min_rows": Range(5, 200, log=True),
        "columns": Range(0.3, 1.0),
        "l2": Range(0.1, 100.0, log=True),
        "smooth": Range(1.0, 200.0, log=True),
    }

    def __post_init__(self) -> None:
        for key in ("lr", "leaves", "min_rows", "trees", "patience", "columns", "rows"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key} must be above 0, not {getattr(self, key)}")


class GBDT(ScoringModel[GBDTConfig]):
    """Categories are split as sets of codes, lists as one column a code."""

    name: ClassVar[str] = "gbdt"
    Config = GBDTConfig

    def learn(self, train: Labelled, valid: Labelled, learning: Learning) -> Learned:
        config, layout = self.config, train.batch.layout
        settings = {
            "objective": "binary", "learning_rate": config.lr, "num_leaves": config.leaves,
            "min_data_in_leaf": config.min_rows, "feature_fraction": config.columns, "bagging_fraction": config.rows,
            "bagging_freq": 1, "lambda_l1": config.l1, "lambda_l2": config.l2, "cat_smooth": config.smooth,
            "max_cat_to_onehot": 4, "seed": learning.seed, "deterministic": True, "force_row_wise": True,
            "verbosity": -1, "num_threads": 0,
        }  # fmt: skip
        searching = learning.length is None and len(valid) > 0
        most = config.trees if searching else min(config.trees, _UNJUDGED)
        fitted = _dataset(train)
        booster = lightgbm.train(
            settings, fitted,
            num_boost_round=most if learning.length is None else learning.length,
            valid_sets=[_dataset(valid, fitted)] if searching else None,
            callbacks=_callbacks(config, learning, searching),
        )  # fmt: skip
        trees = booster.best_iteration if searching and booster.best_iteration > 0 else booster.current_iteration()
        engine = TreeEngine(tree_arrays(booster.dump_model(num_iteration=trees)), layout)
        return Learned(engine, trees, facts={"trees": trees, "importance": _importance(booster, layout, trees)})


class _Columns(lightgbm.Sequence):
    """What trees look at, made as LightGBM asks for it: it keeps a byte or two a value, and never the values."""

    batch_size = 1 << 12

    def __init__(self, rows: Labelled) -> None:
        self._batch = rows.batch

    def __len__(self) -> int:
        return len(self._batch)

    def __getitem__(self, at: int | slice | list[int]) -> npt.NDArray[np.float64]:
        if isinstance(at, slice):
            return tree_inputs(self._batch.slice(at.start, at.stop))
        found = tree_inputs(self._batch.take(np.atleast_1d(np.asarray(at))))
        return found if np.ndim(at) else found[0]


def _dataset(rows: Labelled, fitted: Any = None) -> Any:
    categories = list(range(len(rows.batch.layout.categories)))
    return lightgbm.Dataset(
        _Columns(rows), rows.labels_BT[:, 0], weight=rows.weights_B, categorical_feature=categories, reference=fitted,
        free_raw_data=True,
    )  # fmt: skip


def _callbacks(config: GBDTConfig, learning: Learning, searching: bool) -> list[Any]:
    def watch(env: Any) -> None:
        if learning.on_score is not None and env.evaluation_result_list:
            learning.on_score(env.iteration + 1, -env.evaluation_result_list[0][2])
        if learning.deadline is not None and time.monotonic() > learning.deadline:
            raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list)

    stop = [lightgbm.early_stopping(config.patience, verbose=False)] if searching else []
    return [*stop, watch]


def _importance(booster: Any, layout: Layout, trees: int) -> dict[str, float]:
    """Share of the gain that each field brought, the largest first; the columns of a list together."""
    gains = booster.feature_importance("gain", iteration=trees)
    names = [*layout.categories, *(n for n, s in zip(layout.lists, layout.list_sizes, strict=True) for _ in range(s))]
    total = max(float(gains.sum()), 1e-30)
    shares: dict[str, float] = {}
    for name, gain in zip([*names, *layout.numbers], gains.tolist(), strict=True):
        shares[name] = shares.get(name, 0.0) + gain / total
    return {name: round(share, 4) for name, share in sorted(shares.items(), key=lambda one: -one[1])}


def tree_arrays(dump: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `kernels.trees.score_trees` from LightGBM's `dump_model`. Inputs are finite: no missing values."""
    nodes: list[Mapping[str, Any]] = []
    children: list[list[int]] = []
    roots = []
    for tree in dump["tree_info"]:
        roots.append(len(nodes))
        waiting = [(tree["tree_structure"], -1, 0)]
        while waiting:
            node, parent, side = waiting.pop()
            if parent >= 0:
                children[parent][side] = len(nodes)
            nodes.append(node)
            children.append([0, 0])
            if "split_feature" in node:
                here = len(nodes) - 1
                waiting += [(node["right_child"], here, 1), (node["left_child"], here, 0)]
    sets = [_words(node["threshold"]) if node.get("decision_type") == "==" else [] for node in nodes]
    numeric = [float(n["threshold"]) if n.get("decision_type") == "<=" else 0.0 for n in nodes]
    return {
        "roots": np.array(roots, np.int32),
        "feature": np.array([node.get("split_feature", -1) for node in nodes], np.int32),
        "threshold": np.array(numeric, np.float64),
        "children": np.array(children, np.int32).reshape(-1, 2),
        "value": np.array([node.get("leaf_value", 0.0) for node in nodes], np.float64),
        "sets": np.array([word for words in sets for word in words], np.uint32),
        "set_offsets": np.concatenate([[0], np.cumsum([len(words) for words in sets])]).astype(np.int32),
    }


def _words(codes: str) -> list[int]:
    """`"1||3||40"` as bits, 32 a word."""
    found = [int(code) for code in codes.split("||")]
    words = [0] * (max(found) // 32 + 1)
    for code in found:
        words[code // 32] |= 1 << code % 32
    return words
