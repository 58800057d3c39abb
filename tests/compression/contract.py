"""What every step promises; the tests of a step inherit it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from leanrec.compression.base import Step, make_step
from leanrec.compression.encoder import plain_tensors, with_tensors
from leanrec.compression.quality import judge
from leanrec.runtime.recommender import Recommender
from tests.compression.toys import hybrid, popular, transformer, work, world


def encoded(model: Recommender) -> npt.NDArray[np.float32]:
    vectors: npt.NDArray[np.float32] = model.source.engine.encode(work().histories)  # type: ignore[attr-defined]
    return vectors


def answers(model: Recommender) -> npt.NDArray[np.int32]:
    return model.rank(work().histories, 10)[0].items_BK


class StepContract:
    """Subclasses say what a plan would: a step with settings under which it is applied to the small transformer."""

    entry: ClassVar[Any]
    error: ClassVar[float] = 1e-4
    """How far vectors may be from those of plain float32 layers with the matrices that the layers stand for."""
    encoders: ClassVar[bool] = True
    """Whether it is for what has an encoder; a teacher may be anything."""

    def step(self) -> Step[Any]:
        return make_step(self.entry)

    @pytest.fixture(scope="class")
    @classmethod
    def before(cls) -> Recommender:
        return transformer()

    @pytest.fixture(scope="class")
    @classmethod
    def after(cls, before: Recommender) -> Recommender:
        exact = encoded(before)
        after, record = make_step(cls.entry).apply(before, work())
        assert record.applied, record.said
        assert record.step == make_step(cls.entry).name and record.said
        assert msgspec.json.decode(msgspec.json.encode(record))["facts"] is not None
        np.testing.assert_array_equal(encoded(before), exact)  # the one it was given is left as it was
        return after

    def test_vectors_have_their_shape_one_by_one_and_together(self, after: Recommender) -> None:
        histories, vectors = work().histories, encoded(after)
        assert vectors.shape == (len(histories), after.source.engine.dim)  # type: ignore[attr-defined]
        assert vectors.dtype == np.float32 and np.isfinite(vectors).all()
        for at in range(0, len(histories), 31):
            one = after.source.engine.encode(histories.slice(at, at + 1))  # type: ignore[attr-defined]
            np.testing.assert_allclose(one[0], vectors[at], atol=1e-3)

    def test_what_is_stored_answers_alike(self, after: Recommender, tmp_path: Path) -> None:
        after.save(tmp_path / "b")
        stored = Recommender.load(tmp_path / "b")
        np.testing.assert_array_equal(encoded(stored), encoded(after))
        np.testing.assert_array_equal(answers(stored), answers(after))

    def test_its_loss_is_reported(self, before: Recommender, after: Recommender) -> None:
        quality = judge(before, after, world(), metric="ndcg@10", alpha=0.05)
        assert 0 <= quality.after <= 1 and quality.certificate.users == quality.users
        assert any("ndcg@10" in sentence for sentence in quality.sentences())

    def test_a_second_time_does_nothing(self, after: Recommender, tmp_path: Path) -> None:
        after.save(tmp_path / "b")
        for one in (after, Recommender.load(tmp_path / "b")):
            again, record = self.step().apply(one, work())
            if record.applied:
                np.testing.assert_array_equal(encoded(again), encoded(one))
            else:
                assert again is one and record.said

    def test_it_is_the_same_under_one_seed(self, before: Recommender, after: Recommender) -> None:
        again, _ = self.step().apply(before, work())
        np.testing.assert_array_equal(encoded(again), encoded(after))

    def test_the_engine_computes_what_its_layers_stand_for(self, after: Recommender) -> None:
        plain = with_tensors(after, plain_tensors(after.source.engine.tensors()))  # type: ignore[attr-defined]
        np.testing.assert_allclose(encoded(after), encoded(plain), atol=self.error)

    @pytest.mark.parametrize("make", [popular, hybrid])
    def test_what_has_no_encoder_is_left_alone(self, make: Callable[[], Recommender]) -> None:
        model = make()
        same, record = self.step().apply(model, work())
        assert record.applied is not self.encoders and (same is model) is self.encoders
        assert not self.encoders or model.source.name in record.said
