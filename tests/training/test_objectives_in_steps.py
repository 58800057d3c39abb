"""What objectives, hidden inputs, weights and views do to a step and to a fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.models import MODELS
from leanrec.models.base import FitOptions
from leanrec.nn.blocks import Transformer
from leanrec.nn.tables import make_table
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.training.augment import ContrastiveOptions
from leanrec.training.loader import Batch, SequenceLoader
from leanrec.training.objectives import make_objective
from leanrec.training.task import NextItem, StepOptions
from leanrec.training.trainer import Trainer
from tests.models.worlds import shop

ITEMS = 60
SETTINGS: dict[str, Any] = {
    "dim": 16, "layers": 1, "heads": 2, "epochs": 3, "patience": 3, "negatives": 16, "batch_tokens": 128,
    "max_length": 10,
}  # fmt: skip


def _task(objective: str = "sampled-softmax", *, bidirectional: bool = False, **options: Any) -> NextItem:
    torch.manual_seed(0)
    net = Transformer(
        block="sasrec", dim=16, layers=1, heads=2, hidden=32, max_length=10, dropout=0.0, bidirectional=bidirectional
    )
    table = make_table("dense", ITEMS, 16, options={"optimiser": "sgd"})
    return NextItem(net, table, make_objective(objective, {}, ITEMS, 20), StepOptions(lr=1e-2, seed=1, **options))


def _batch(**settings: Any) -> Batch:
    random = np.random.default_rng(0)
    rows = [random.integers(1, ITEMS, n) for n in random.integers(2, 30, 30)]
    settings = {"max_length": 10, "batch_tokens": 60, "num_items": ITEMS, "negatives": 20, **settings}
    return next(SequenceLoader(Jagged.from_rows(rows), **settings).epoch(0))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_hidden_input_tells_nothing(bidirectional: bool) -> None:
    batch = replace(_batch(masked=0.4), negatives_n=np.arange(1, 21, dtype=np.int32))
    losses = []
    for scale in (1.0, 5.0):  # the row that hidden inputs are looked up at
        task = _task(bidirectional=bidirectional)
        task.table.weight()[0] *= scale
        losses.append(task.step(batch))
    assert losses[0] == losses[1]
    if bidirectional:
        before = _task(bidirectional=True).weights()["mask_D"]
        assert not np.array_equal(task.weights()["mask_D"], before)


def test_weights_of_predictions_reach_the_loss() -> None:
    batch = _batch()
    count = len(batch.targets_T)
    parts = [np.zeros(count, np.float32), np.zeros(count, np.float32)]
    parts[0][: count // 2] = parts[1][count // 2 :] = 1
    whole = _task().step(batch)
    assert sum(_task().step(replace(batch, weight_T=part)) for part in parts) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_contrastive_loss_is_added_once(accumulate: int) -> None:
    batch = _batch(views=ContrastiveOptions())
    plain = _task().step(replace(batch, views=None))
    added = [_task(contrastive=c, accumulate=accumulate).step(batch) - plain for c in (1.0, 2.0)]
    assert added[0] > 0.1
    assert added[1] == pytest.approx(2 * added[0], rel=1e-4)


def test_views_of_one_sequence_come_closer() -> None:
    batch = _batch(views=ContrastiveOptions())
    task = _task(contrastive=1.0)
    losses = [task.step(batch) for _ in range(40)]
    alone = _task()
    only = [alone.step(replace(batch, views=None)) for _ in range(40)]
    assert losses[-1] - only[-1] < 0.7 * (losses[0] - only[0])


def test_cosine_scores_are_trained_and_served_with_unit_rows() -> None:
    short, long = _task("ccl"), _task("ccl")
    long.table.weight()[:] *= 3
    assert short.step(_batch()) == pytest.approx(long.step(_batch()), rel=1e-5)
    np.testing.assert_allclose(np.linalg.norm(short.items(), axis=1), 1, rtol=1e-5)
    source = MODELS["sasrec"](**SETTINGS, objective="ccl").fit(shop(), seed=0).source
    assert isinstance(source, EmbeddingSource)
    np.testing.assert_allclose(np.linalg.norm(source.index.items_ND, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "softmax", "objective_options": {"label_smoothing": 0.1}},
        {"objective": "sce"},
        {"objective": "bpr"},
        {"negatives_from": "mixed", "class_weight": 0.3, "contrastive": 0.1},
    ],
)
def test_every_way_learns(changes: dict[str, Any]) -> None:
    found = MODELS["sasrec"](**{**SETTINGS, "epochs": 8, "lr": 0.02, **changes}).fit(shop(), seed=0)
    scores = found.card["validation"]
    assert max(scores[1:]) > scores[0]


def test_pretraining_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = shop(), MODELS["sasrec"](**SETTINGS, pretrain_epochs=2)
    monkeypatch.setattr(Trainer, "_due", lambda trainer: True)

    def fit(name: str, stop_at: int | None) -> Recommender:
        step, count = NextItem.step, 0

        def counted(task: NextItem, batch: Batch) -> float:
            nonlocal count
            count += 1
            if count == stop_at:
                raise KeyboardInterrupt
            return step(task, batch)

        with monkeypatch.context() as patch:
            patch.setattr(NextItem, "step", counted)
            return model.fit_with(data, FitOptions(seed=2, refit=True, run=tmp_path / name, resume=True))

    whole = _weights(fit("whole", None))
    for stop_at in (3, 9, 13):  # in pretraining, in the search, in the refit's pretraining
        with pytest.raises(KeyboardInterrupt):
            fit("cut", stop_at)
    for name, array in _weights(fit("cut", None)).items():
        np.testing.assert_array_equal(array, whole[name])


def _weights(found: Recommender) -> dict[str, Any]:
    return {
        f"{part}.{name}": array for part, tensors in found.source.parts().items() for name, array in tensors.items()
    }


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="mask_share=0"):
        MODELS["sasrec"](**SETTINGS, mask_share=0.0).fit(shop())
