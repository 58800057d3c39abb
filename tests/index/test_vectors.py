"""What every kind of item vectors promises, by inheritance, and what each kind is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.config import build
from leanrec.core.errors import BundleError, ConfigError, InputError
from leanrec.core.jagged import Jagged
from leanrec.core.tensors import map_tensors, serialize
from leanrec.index.coded import CodedIndex
from leanrec.index.vectors import VECTORS, ItemVectors, Weighting, scores_of
from leanrec.index.vectors.product import _levels, _nearest_level
from leanrec.index.vectors.rowwise import RowwiseVectors
from leanrec.kernels.bfloat16 import nearest_bfloat16
from leanrec.kernels.product import assign_codes, assign_codes_reference, expand_rows, expand_rows_reference
from leanrec.kernels.rounding import round_row_reference
from leanrec.kernels.rowwise import decode_rows_reference, encode_rows_reference
from leanrec.kernels.topk import canonical_scores_reference

from .contract import degenerate, table

F32 = npt.NDArray[np.float32]


def made(kind: str, table_ND: F32, weighting: Weighting | None = None, **options: Any) -> ItemVectors:
    way = VECTORS[kind]
    return way.encode(table_ND, build(way.Options, options, where="test"), weighting)


def error_of(vectors: ItemVectors, table_ND: F32) -> float:
    """Squared error as a share of the table's squares."""
    return float(np.square(vectors.table() - table_ND).sum() / np.square(table_ND).sum())


class VectorsContract:
    kind: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    error: ClassVar[float]
    """Of a Gaussian table."""
    grows: ClassVar[bool] = True

    def made(self, table_ND: F32) -> ItemVectors:
        return made(self.kind, table_ND, **self.options)

    def test_shape_bytes_and_error(self) -> None:
        table_ND = table(700, 16)
        vectors = self.made(table_ND)
        assert vectors.shape == (700, 16)
        assert len(vectors) == 700
        assert vectors.nbytes == sum(array.nbytes for array in vectors.tensors().values())
        assert error_of(vectors, table_ND) <= self.error

    def test_a_row_reads_the_same_however_it_is_read(self) -> None:
        vectors, rng = self.made(table(300, 12)), np.random.default_rng(0)
        whole_ND, rows = vectors.table(), rng.integers(0, 300, 500)
        np.testing.assert_array_equal(vectors.gather(rows), whole_ND[rows])
        np.testing.assert_array_equal(vectors.gather(rows.astype(np.int32)[:3]), whole_ND[rows[:3]])
        np.testing.assert_array_equal(vectors.block(17, 40), whole_ND[17:40])
        np.testing.assert_array_equal(vectors.first(30).table(), whole_ND[:30])
        out = np.full((5, 12), np.nan, np.float32)
        assert vectors.gather(rows[:5], out) is out
        np.testing.assert_array_equal(out, whole_ND[rows[:5]])
        assert vectors.gather(rows[:0]).shape == (0, 12)

    def test_stored_and_mapped_gives_the_same(self, tmp_path: Path) -> None:
        vectors = self.made(table(300, 12))
        (tmp_path / "items").write_bytes(serialize(vectors.tensors()))
        stored = type(vectors).from_tensors(vectors.config(), map_tensors(tmp_path / "items"))
        np.testing.assert_array_equal(stored.table(), vectors.table())
        assert stored.shape == vectors.shape
        queries_BD = table(4, 12, seed=1)
        before, after = CodedIndex(vectors).search(queries_BD, 7), CodedIndex(stored).search(queries_BD, 7)
        np.testing.assert_array_equal(before.items_BK, after.items_BK)

    def test_encoding_is_deterministic_and_decoding_idempotent(self) -> None:
        vectors, again = self.made(table(300, 12)), self.made(table(300, 12))
        np.testing.assert_array_equal(vectors.table(), again.table())

    def test_damaged_arrays_are_refused(self) -> None:
        vectors = self.made(table(300, 12))
        for name, array in vectors.tensors().items():
            for broken in (array[..., :-1], array.astype(np.int64), array[None]):
                if (
                    name.endswith(("table", "upper", "basis", "place"))
                    and broken.ndim == array.ndim
                    and (broken.dtype == array.dtype)
                ):
                    continue  # fewer columns or rows are a table; the encoder and the ids find that it does not fit
                with pytest.raises((BundleError, ValueError)):
                    type(vectors).from_tensors(vectors.config(), {**vectors.tensors(), name: broken})

    def test_new_rows_come_at_the_end(self) -> None:
        vectors, rows_UD = self.made(table(300, 12)), table(20, 12, seed=3)
        if not self.grows:
            with pytest.raises(InputError, match="new rows"):
                vectors.added(rows_UD)
            return
        grown = vectors.added(rows_UD)
        np.testing.assert_array_equal(grown.table()[:300], vectors.table())
        assert grown.shape == (320, 12)
        assert np.square(grown.block(300, 320) - rows_UD).sum() < np.square(rows_UD).sum()

    @pytest.mark.parametrize("kind", ["plain", "duplicates", "all zero", "tiny", "mixed norms", "near ties", "sparse"])
    def test_scans_find_what_brute_force_finds_over_decoded_rows(self, kind: str) -> None:
        rng = np.random.default_rng(5)
        for dim in (3, 8, 33):
            size = int(rng.integers(1, 400))
            options = {**self.options, **({"code_bytes": 3} if self.kind == "product" else {})}
            if self.kind == "low-rank":
                options["rank"] = max(1, dim // 2)
            vectors = made(self.kind, degenerate(kind, rng, size, dim), **options)
            index, whole_ND = CodedIndex(vectors), vectors.table()
            queries_BD = degenerate("plain", rng, 3, dim)
            allowed_N = rng.random(size) < 0.7
            for k in (1, 10, size + 3):
                hits = index.search(queries_BD, k, None, allowed_N)
                for b in range(3):
                    scores_N = canonical_scores_reference(whole_ND, np.arange(size), queries_BD, np.full(size, b))
                    best = [n for n in np.lexsort((np.arange(size), -scores_N)) if allowed_N[n]][:k]
                    np.testing.assert_array_equal(hits.items_BK[b, : len(best)], best)
                    np.testing.assert_array_equal(hits.scores_BK[b, : len(best)], scores_N[best])
                    assert (hits.items_BK[b, len(best) :] == -1).all()
                    lower_N, upper_N = index.bounds(queries_BD[b])
                    assert ((lower_N <= scores_N) & (scores_N <= upper_N)).all()

    @pytest.mark.parametrize("batch", [1, 5, 20])
    def test_a_search_that_ends_early_is_brute_force(self, batch: int) -> None:
        """Rows of very different lengths, the long ones anywhere, many that are the same, some queries of zero."""
        rng = np.random.default_rng(batch)
        size, dim = 5003, 12
        lengths_N = np.exp(rng.normal(0, 2, size // 32 + 1))[np.arange(size) // 32]
        table_ND = (rng.standard_normal((size, dim)) * lengths_N[:, None]).astype(np.float32)
        table_ND[rng.integers(0, size, 600)] = table_ND[int(np.argmax(lengths_N))]
        vectors = self.made(table_ND)
        index, whole_ND = CodedIndex(vectors), vectors.table()
        queries_BD = rng.standard_normal((batch, dim)).astype(np.float32)
        if batch > 1:
            queries_BD[1] = 0
        exclude = Jagged.from_rows([rng.integers(0, size, 40 * b) for b in range(batch)])
        allowed_N = rng.random(size) < 0.2
        for k, skip in (
            (1, (None, None)),
            (10, (exclude, None)),
            (10, (exclude, allowed_N)),
            (3000, (None, allowed_N)),
        ):
            hits = index.search(queries_BD, k, *skip)
            for b in range(batch):
                scores_N = canonical_scores_reference(whole_ND, np.arange(size), queries_BD, np.full(size, b))
                may_N = np.ones(size, np.bool_) if skip[1] is None else allowed_N.copy()
                if skip[0] is not None:
                    may_N[exclude[b]] = False
                best = np.lexsort((np.arange(size), -scores_N))
                best = best[may_N[best]][:k]
                np.testing.assert_array_equal(hits.items_BK[b, : len(best)], best)
                np.testing.assert_array_equal(hits.scores_BK[b, : len(best)], scores_N[best])


class TestFloat32(VectorsContract):
    kind, error = "float32", 0.0


class TestBfloat16(VectorsContract):
    kind, error = "bfloat16", 4e-6


class TestInt8(VectorsContract):
    kind, error = "int8", 4e-5


class TestInt5(VectorsContract):
    kind, error = "int5", 2.5e-3


class TestInt6(VectorsContract):
    kind, error = "int6", 6e-4


class TestInt4(VectorsContract):
    kind, error = "int4", 0.009


class TestInt2(VectorsContract):
    kind, error = "int2", 0.13


class TestProduct(VectorsContract):
    kind, error = "product", 0.12
    options: ClassVar = {"code_bytes": 6}


class TestLowRank(VectorsContract):
    kind, error = "low-rank", 0.35
    options: ClassVar = {"rank": 10}


def test_more_bits_lose_less() -> None:
    table_ND = table(500, 64)
    errors = [error_of(made(kind, table_ND), table_ND) for kind in ("bfloat16", "int8", "int6", "int5", "int4", "int2")]
    assert errors == sorted(errors)
    bytes_a_row = [
        made(kind, table_ND).nbytes / 500 for kind in ("float32", "bfloat16", "int8", "int6", "int5", "int4", "int2")
    ]
    assert bytes_a_row == [256, 128, 68, 52, 44, 36, 20]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["int8", "int6", "int5", "int4", "int2"]), st.integers(1, 40), st.integers(0, 2**31))
def test_rows_of_few_bits_against_the_reference(kind: str, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table_ND = (rng.standard_normal((9, dim)) * 10.0 ** rng.integers(-6, 7, (9, 1))).astype(np.float32)
    vectors = made(kind, table_ND)
    assert isinstance(vectors, RowwiseVectors)
    scales_N, offsets_N = vectors.ranges()
    codes_ND = encode_rows_reference(table_ND, scales_N.astype(np.float64), offsets_N.astype(np.float64), vectors.bits)
    expected_ND = offsets_N[:, None] + scales_N[:, None] * codes_ND.astype(np.float32)
    np.testing.assert_array_equal(vectors.table(), expected_ND)
    arrays = vectors.codes_NW, vectors.scales_N, vectors.offsets_N
    np.testing.assert_array_equal(vectors.table(), decode_rows_reference(*arrays, vectors.bits, dim))
    # No worse than the whole range in even steps.
    low_N, high_N = (np.asarray(f(table_ND.astype(np.float64), axis=1)) for f in (np.min, np.max))
    step_N = np.where(high_N > low_N, (high_N - low_N) / ((1 << vectors.bits) - 1), 1)
    even_ND = low_N[:, None] + step_N[:, None] * np.rint((table_ND - low_N[:, None]) / step_N[:, None])
    plain_N = np.square(table_ND - even_ND).sum(axis=1)
    own_N = np.square(table_ND.astype(np.float64) - vectors.table()).sum(axis=1)
    assert (own_N <= plain_N * 1.05 + np.square(table_ND).sum(axis=1) * 1e-4).all()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["int8", "int6", "int5", "int4", "int2"]), st.integers(1, 20), st.integers(0, 2**31))
def test_rounding_by_a_metric_against_the_reference(kind: str, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table_ND = (rng.standard_normal((9, dim)) * 10.0 ** rng.integers(-3, 4, (9, 1))).astype(np.float32)
    seen_QD = rng.standard_normal((dim, dim)) * np.exp(-np.arange(dim))
    metric_DD = seen_QD.T @ seen_QD + 0.1 * np.trace(seen_QD.T @ seen_QD) / dim * np.eye(dim)
    vectors = made(kind, table_ND, Weighting(metric_DD=metric_DD))
    assert isinstance(vectors, RowwiseVectors)
    scales_N, offsets_N = (part.astype(np.float64) for part in vectors.ranges())
    ridge_DD = metric_DD + 1e-4 * np.trace(metric_DD) / dim * np.eye(dim)
    for n, row_D in enumerate(table_ND.astype(np.float64)):
        codes_D = round_row_reference(row_D, ridge_DD, scales_N[n], offsets_N[n], (1 << vectors.bits) - 1)
        expected_D = np.float32(offsets_N[n]) + np.float32(scales_N[n]) * codes_D.astype(np.float32)
        np.testing.assert_array_equal(vectors.table()[n], expected_D)


@pytest.mark.parametrize("kind", ["int8", "int5", "int4", "int2"])
def test_rounding_by_a_metric_costs_less_by_it(kind: str) -> None:
    table_ND, seen_QD = table(500, 24), table(24, 24, seed=1).astype(np.float64) * np.exp(-np.arange(24) / 4)[:, None]
    metric_DD = seen_QD.T @ seen_QD
    metric_DD += 0.02 * np.trace(metric_DD) / 24 * np.eye(24)

    def cost(vectors: ItemVectors) -> float:
        missed_ND = vectors.table() - table_ND.astype(np.float64)
        return float(np.einsum("nd,de,ne->", missed_ND, metric_DD, missed_ND))

    assert cost(made(kind, table_ND, Weighting(metric_DD=metric_DD))) < 0.6 * cost(made(kind, table_ND))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**31))
def test_product_kernels_against_references(rows: int, splits: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts_NMW = rng.standard_normal((rows, splits, width), dtype=np.float32)
    pieces_MCW = rng.standard_normal((splits, 256, width), dtype=np.float32)
    codes_NM = np.zeros((rows, splits), np.uint8)
    assign_codes(parts_NMW, pieces_MCW, codes_NM)
    np.testing.assert_array_equal(codes_NM, assign_codes_reference(parts_NMW, pieces_MCW))
    out = np.empty((rows, width), np.float32)
    expand_rows(parts_NMW[:, 0, :1].copy(), pieces_MCW[0, :1], out)
    np.testing.assert_array_equal(out, expand_rows_reference(parts_NMW[:, 0, :1], pieces_MCW[0, :1]))


def test_lengths_of_product_codes_are_where_the_rows_are() -> None:
    """Closer, by weight, than levels spread evenly over the orders of magnitude, and exact where few lengths occur."""
    rng = np.random.default_rng(3)
    gains_N = np.concatenate([np.exp(0.1 * rng.standard_normal(4000)), np.geomspace(1e-3, 1e3, 50)])
    weights_N = rng.random(len(gains_N))

    def error(levels_S: Any) -> float:
        found_N = (levels_S.astype(np.uint32) << 16).view(np.float32)[_nearest_level(gains_N, levels_S)]
        return float((weights_N * np.log(np.maximum(found_N, 1e-30) / gains_N) ** 2).sum())

    even_S = nearest_bfloat16(np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 255)]).astype(np.float32))
    assert error(_levels(gains_N, weights_N)) < error(even_S) / 5
    few_N = np.array([0.0, 0.5, 2.0, 0.5])
    few_S = _levels(few_N, np.ones(4))
    assert np.allclose((few_S.astype(np.uint32) << 16).view(np.float32)[_nearest_level(few_N, few_S)], few_N, rtol=1e-2)
    assert np.isfinite((_levels(np.zeros(3), np.ones(3)).astype(np.uint32) << 16).view(np.float32)).all()


def test_product_codes_look_after_rows_that_matter() -> None:
    table_ND, weights_N = table(3000, 8), np.full(3000, 1e-3)
    weights_N[:200] = 1
    plain, careful = (
        made("product", table_ND, weighting, code_bytes=2) for weighting in (None, Weighting(rows_N=weights_N))
    )
    before, after = (np.square(v.table()[:200] - table_ND[:200]).sum() for v in (plain, careful))
    assert after < before / 2


def test_a_basis_for_what_queries_see() -> None:
    rng = np.random.default_rng(0)
    table_ND = table(500, 8)
    queries_BD = (rng.standard_normal((100, 8)) * [5, 3, 1, 0.1, 0.1, 0.1, 0.1, 0.1]).astype(np.float32)
    metric_DD = queries_BD.astype(np.float64).T @ queries_BD / 100
    plain, seen = (
        made("low-rank", table_ND, weighting, rank=3, factors="float32")
        for weighting in (None, Weighting(metric_DD=metric_DD))
    )
    losses = [np.square(queries_BD @ (v.table() - table_ND).T).sum() for v in (plain, seen)]
    assert losses[1] < losses[0] / 5


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="code bytes"):
        made("product", table(20, 8), code_bytes=9)
    with pytest.raises(ConfigError, match="rank"):
        made("low-rank", table(20, 8), rank=9)
    with pytest.raises(ConfigError, match="unknown kind of item vectors"):
        VECTORS["int3"]


def test_nearest_bfloat16() -> None:
    values = np.float32([1, 1 + 2**-9, 1 + 2**-8, 1 + 3 * 2**-9, 3.4e38, -3.4e38, 0, -1e-45])
    found = (nearest_bfloat16(values).astype(np.uint32) << 16).view(np.float32)
    assert found[:4].tolist() == [1, 1, 1, 1 + 2**-7]
    assert np.isfinite(found).all()


def test_scores_of_many() -> None:
    vectors = made("int4", table(50, 8))
    rows, queries_BD = np.arange(50), table(2, 8, seed=1)
    owner = rows % 2
    expected = canonical_scores_reference(vectors.table(), rows, queries_BD, owner)
    np.testing.assert_array_equal(scores_of(vectors, rows, queries_BD, owner), expected)


def test_batch_equals_single_and_excluded_rows_stay_away() -> None:
    from leanrec.core.jagged import Jagged

    for kind in ("int8", "int2", "product"):
        index, queries_BD = CodedIndex(made(kind, table(3000, 16))), table(130, 16, seed=1)
        exclude = Jagged.from_rows([np.arange(b % 7) for b in range(130)])
        hits = index.search(queries_BD, 7, exclude)
        for b in range(0, 130, 13):
            one = index.search(queries_BD[b : b + 1], 7, exclude.slice(b, b + 1))
            np.testing.assert_array_equal(one.items_BK[0], hits.items_BK[b])
            np.testing.assert_array_equal(one.scores_BK[0], hits.scores_BK[b])
            assert (hits.items_BK[b] >= b % 7).all()


def test_more_ties_than_are_kept() -> None:
    vectors = made("int8", np.repeat(table(3, 8), 6000, axis=0))
    hits = CodedIndex(vectors).search(table(2, 8, seed=1), 5)
    scores_N = vectors.table().astype(np.float64) @ table(2, 8, seed=1).T.astype(np.float64)
    for b in range(2):
        best = int(np.argmax(scores_N[:, b]))
        assert hits.items_BK[b].tolist() == list(range(best, best + 5))


def test_rows_that_are_no_numbers_are_refused_wherever_they_stand() -> None:
    from leanrec.index.vectors.low_rank import LowRankVectors

    factors_NR = table(40_000, 4)
    factors_NR[39_999, 0] = np.nan
    for vectors in (
        made("float32", factors_NR),
        LowRankVectors(made("float32", factors_NR), np.eye(4, dtype=np.uint16)),
    ):
        with pytest.raises(InputError, match="NaN"):
            CodedIndex(vectors)


def test_bounds_of_no_rows() -> None:
    for kind in ("float32", "bfloat16", "int8"):
        lower_N, upper_N = CodedIndex(made(kind, table(0, 4))).bounds(table(1, 4)[0])
        assert len(lower_N) == len(upper_N) == 0


def test_vectors_that_are_too_long_are_refused() -> None:
    vectors = made("bfloat16", table(5, 4) * np.float32(1e30))
    with pytest.raises(InputError, match="too large"):
        CodedIndex(vectors)


class TestShared(VectorsContract):
    kind, error = "shared", 0.5
    options: ClassVar = {"own": 0.3, "clusters": 100}


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(3, 600), own=st.floats(0, 1), clusters=st.integers(1, 30), batch=st.sampled_from([1, 3, 9]),
    k=st.integers(1, 40), kind=st.sampled_from(["plain", "duplicates", "signs", "all zero"]), seed=st.integers(0, 999),
)  # fmt: skip
def test_shared_vectors_are_searched_once_and_answer_as_their_rows(
    size: int, own: float, clusters: int, batch: int, k: int, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = made("shared", degenerate(kind, rng, size, 6), own=own, clusters=clusters, vectors="int2")
    plain, queries_BD = CodedIndex(made("float32", vectors.table())), rng.standard_normal((batch, 6), dtype=np.float32)
    exclude = Jagged.from_rows([rng.integers(0, size, rng.integers(0, 2 * size)) for _ in range(batch)])
    allowed_N, gone = rng.random(size) < rng.choice([0.02, 0.8]), rng.integers(0, size, 3)
    for index, other in (
        (CodedIndex(vectors), plain),
        (CodedIndex(vectors).remove(gone), plain.remove(gone)),
        (CodedIndex(vectors.first(-(-size // 2))).add(table(5, 6)), None),
    ):
        expected = other or CodedIndex(made("float32", index.vectors.table()))
        mask_N = np.resize(allowed_N, len(index.vectors))
        for skip in ((None, None), (exclude, None), (None, mask_N), (exclude, mask_N)):
            if other is None and skip[0] is not None:
                continue
            hits, told = index.search(queries_BD, k, *skip), expected.search(queries_BD, k, *skip)
            np.testing.assert_array_equal(hits.items_BK, told.items_BK)
            np.testing.assert_array_equal(hits.scores_BK, told.scores_BK)


def test_shared_vectors_where_everything_ties_or_few_rows_may_be_answered() -> None:
    rng = np.random.default_rng(0)
    vectors = made("shared", table(30_000, 4), own=0.4, clusters=4096, vectors="int8")
    index, plain = CodedIndex(vectors), CodedIndex(made("float32", vectors.table()))
    queries_BD = table(3, 4, seed=1)
    queries_BD[1] = 0  # every row has the same score, more of them than there is room for at first
    beyond = Jagged.from_rows([[-1, 30_000, 5], [0, 1, -7], [29_999]])
    few_N = rng.random(30_000) < 0.01
    for k, skip in ((10, (None, None)), (700, (None, few_N)), (50, (beyond, None))):
        hits, told = index.search(queries_BD, k, *skip), plain.search(queries_BD, k, *skip)
        np.testing.assert_array_equal(hits.items_BK, told.items_BK)
        np.testing.assert_array_equal(hits.scores_BK, told.scores_BK)


def test_a_map_grows_wider_with_its_vectors() -> None:
    vectors = made("shared", table(70_000, 2), own=0.93, clusters=430, vectors="int2")
    assert vectors.tensors()["place"].dtype == np.uint16
    grown = vectors.added(table(10, 2))
    assert grown.tensors()["place"].dtype == np.uint32
    np.testing.assert_array_equal(grown.table()[:70_000], vectors.table())


def test_rows_that_matter_keep_their_own_vector() -> None:
    table_ND, weights_N = table(500, 8), np.zeros(500)
    weights_N[[3, 77, 400]] = 1
    vectors = made("shared", table_ND, Weighting(rows_N=weights_N), own=0.006, clusters=5, vectors="float32")
    np.testing.assert_array_equal(vectors.gather(np.array([3, 77, 400])), table_ND[[3, 77, 400]])
    assert len(np.unique(vectors.table(), axis=0)) <= 8


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**31), st.booleans(), st.integers(1, 40))
def test_pruned_search_is_brute_force(size: int, seed: int, basis: bool, k: int) -> None:
    from leanrec.index.pruned import PrunedIndex

    rng = np.random.default_rng(seed)
    table_ND = (rng.standard_normal((size, 8)) * 2.0 ** -np.arange(8)).astype(np.float32)
    if basis:
        inner = {"rank": 8, "factors": "product", "factors_options": {"code_bytes": 2, "rounds": 3}, "splits": 2}
        vectors = made("low-rank", table_ND, **inner)
    else:
        vectors = made("product", table_ND, code_bytes=4, rounds=3)
    index, queries_BD = PrunedIndex(vectors), rng.standard_normal((3, 8), dtype=np.float32)
    exclude = Jagged.from_rows([rng.integers(0, size, rng.integers(0, size)) for _ in range(3)])
    allowed_N = rng.random(size) < 0.8
    for skip in ((None, None), (exclude, allowed_N)):
        found, expected = index.search(queries_BD, k, *skip), CodedIndex(vectors).search(queries_BD, k, *skip)
        np.testing.assert_array_equal(found.items_BK, expected.items_BK)
        np.testing.assert_array_equal(found.scores_BK, expected.scores_BK)


def test_pruning_looks_at_a_part_of_the_rows() -> None:
    from leanrec.index.pruned import PrunedIndex

    rng = np.random.default_rng(0)
    table_ND = (rng.standard_normal((20_000, 16)) * 3.0 ** -np.arange(16)).astype(np.float32)
    index = PrunedIndex(made("product", table_ND, code_bytes=4, rounds=5))
    index.search(table_ND[:20], 10)
    assert index.scanned_queries < 10
    assert index.scored_rows < 20 * 20_000 / 8


def test_pruning_wants_product_codes() -> None:
    from leanrec.index.pruned import PrunedIndex

    with pytest.raises(ConfigError, match="use 'coded'"):
        PrunedIndex(made("int8", table(20, 8)))


def test_indexes_take_more_rows_and_lose_some() -> None:
    from leanrec.index.pruned import PrunedIndex

    for kind, way in (("int8", CodedIndex), ("product", CodedIndex), ("product", PrunedIndex), ("shared", CodedIndex)):
        index = way(made(kind, table(300, 16), **({"own": 0.5} if kind == "shared" else {})))
        grown = index.add(table(20, 16, seed=3)).remove(np.array([5, 310]))
        queries_BD = table(6, 16, seed=1)
        hits, allowed_N = grown.search(queries_BD, 400), np.ones(320, np.bool_)
        allowed_N[[5, 310]] = False
        expected = CodedIndex(grown.vectors).search(queries_BD, 400, None, allowed_N)
        np.testing.assert_array_equal(hits.items_BK, expected.items_BK)
        stored = CodedIndex.restore(grown.vectors, grown.tensors())
        np.testing.assert_array_equal(stored.search(queries_BD, 9).items_BK, hits.items_BK[:, :9])
        assert len(index.vectors) == 300
        assert (index.search(queries_BD, 300).items_BK == 5).any()
    with pytest.raises(InputError, match="row 300 cannot be removed"):
        index.remove(np.array([300]))
