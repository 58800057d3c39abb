"""What every exact index promises, tested by inheritance."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.core.tensors import map_tensors, serialize
from leanrec.index import INDEXES
from leanrec.index.bounded import MAX_NORM, BoundedIndex
from leanrec.kernels.topk import topk_reference

F32 = npt.NDArray[np.float32]


def table(size: int, dim: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((size, dim), dtype=np.float32)


def degenerate(kind: str, rng: np.random.Generator, size: int, dim: int) -> F32:
    """Tables that break a careless bound."""
    items = rng.standard_normal((size, dim))
    if kind == "duplicates":
        items = items[rng.integers(0, 3, size)]
    elif kind == "zero":
        items[rng.random(size) < 0.5] = 0
    elif kind == "all zero":
        items[:] = 0
    elif kind == "denormal":
        items *= 1e-42
    elif kind == "tiny":
        items *= 1e-25
    elif kind == "huge":
        items *= 1e16
    elif kind == "mixed norms":
        items *= 10.0 ** rng.uniform(-20, 15, (size, 1))
    elif kind == "near ties":
        items = 1 + items * 1e-7
    elif kind == "signs":
        items = np.sign(items)
    elif kind == "sparse":
        items *= rng.random(items.shape) < 0.1
    return items.astype(np.float32)


KINDS = [
    "plain", "duplicates", "zero", "all zero", "denormal", "tiny", "huge", "mixed norms", "near ties", "signs",
    "sparse",
]  # fmt: skip


class ExactIndexContract:
    name: ClassVar[str]

    def build(self, items_ND: F32) -> BoundedIndex:
        index = INDEXES[self.name].build(items_ND)
        assert isinstance(index, BoundedIndex)
        return index

    def check(self, index: BoundedIndex, queries_BD: F32, k: int, exclude: Any = None, allowed_N: Any = None) -> None:
        hits = index.search(queries_BD, k, exclude, allowed_N)
        assert hits.items_BK.dtype == np.int32
        assert hits.scores_BK.dtype == np.float32
        for b, query_D in enumerate(queries_BD):
            rows_K, scores_K = topk_reference(
                index.items_ND, query_D, k, None if exclude is None else exclude[b], allowed_N
            )
            np.testing.assert_array_equal(hits.items_BK[b], rows_K)
            np.testing.assert_array_equal(hits.scores_BK[b], scores_K)

    def test_name_and_bytes(self) -> None:
        index = self.build(table(100, 64))
        assert index.name == self.name
        assert index.exact
        assert index.bytes_scanned >= 100 * 64 // 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_oracle_and_bounds(self, kind: str) -> None:
        """Battery row 11: the oracle's answer, and no bound broken, on 10^4 cases of every kind of table and query."""
        rng = np.random.default_rng(KINDS.index(kind))
        for _ in range(4):
            size, dim, batch = int(rng.integers(1, 200)), int(rng.choice([1, 3, 8, 64, 130])), 6
            items_ND = degenerate(kind, rng, size, dim)
            queries_BD = degenerate(str(rng.choice(["plain", kind])), rng, batch, dim)
            index = self.build(items_ND)
            exclude = Jagged.from_rows([rng.integers(0, size, rng.integers(0, size + 3)) for _ in range(batch)])
            allowed_N = rng.random(size) < 0.7
            for k in (1, 10, size + 5):
                self.check(index, queries_BD, k)
                self.check(index, queries_BD, k, exclude, allowed_N)
            for query_D in queries_BD:
                lower_N, upper_N = index.bounds(query_D)
                scores_N = np.full(size, -np.inf, np.float32)
                rows_K, scores_K = topk_reference(items_ND, query_D, size)
                scores_N[rows_K] = scores_K
                assert (lower_N <= scores_N).all()
                assert (scores_N <= upper_N).all()

    def test_bounds_hold_in_exact_arithmetic(self) -> None:
        rng = np.random.default_rng(3)
        for kind in KINDS:
            items_ND = degenerate(kind, rng, 4, 9)
            query_D = degenerate("plain", rng, 1, 9)[0]
            lower_N, upper_N = self.build(items_ND).bounds(query_D)
            for n, row in enumerate(items_ND):
                true = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(row, query_D, strict=True))
                assert Fraction(float(lower_N[n])) <= true <= Fraction(float(upper_N[n]))

    def test_batch_equals_single(self) -> None:
        index, queries_BD = self.build(table(3000, 32)), table(300, 32, seed=1)
        queries_BD[::3] = 0
        exclude = Jagged.from_rows([np.arange(b % 7) for b in range(300)])
        hits = index.search(queries_BD, 7, exclude)
        for b in range(0, 300, 13):
            one = index.search(queries_BD[b : b + 1], 7, exclude.slice(b, b + 1))
            np.testing.assert_array_equal(one.items_BK[0], hits.items_BK[b])
            np.testing.assert_array_equal(one.scores_BK[0], hits.scores_BK[b])

    def test_permuted_items_give_permuted_answers(self) -> None:
        items_ND, queries_BD = table(500, 16), table(20, 16, seed=1)
        order = np.random.default_rng(2).permutation(500)
        plain, moved = self.build(items_ND).search(queries_BD, 10), self.build(items_ND[order]).search(queries_BD, 10)
        np.testing.assert_array_equal(order[moved.items_BK], plain.items_BK)
        np.testing.assert_array_equal(moved.scores_BK, plain.scores_BK)

    def test_stored_and_mapped_gives_the_same(self, tmp_path: Path) -> None:
        index, queries_BD = self.build(table(500, 16)), table(20, 16, seed=1)
        (tmp_path / "table").write_bytes(serialize({"table": index.items_ND}))
        (tmp_path / "index").write_bytes(serialize(index.tensors()))
        stored = type(index).from_tensors(map_tensors(tmp_path / "table")["table"], map_tensors(tmp_path / "index"))
        for before, after in zip(index.bounds(queries_BD[0]), stored.bounds(queries_BD[0]), strict=True):
            np.testing.assert_array_equal(before, after)
        np.testing.assert_array_equal(index.search(queries_BD, 9).items_BK, stored.search(queries_BD, 9).items_BK)

    def test_the_proof_can_be_recomputed(self) -> None:
        index, queries_BD = self.build(table(5000, 64)), table(5, 64, seed=1)
        exclude = Jagged.from_rows([np.arange(2000)] * 5)
        hits, proof = index.search_with_proof(queries_BD, 10, exclude)
        for b, query_D in enumerate(queries_BD):
            _, upper_N = index.bounds(query_D)
            beaten_N = upper_N < proof.thresholds_B[b]
            assert not beaten_N[hits.items_BK[b]].any()
            assert (hits.scores_BK[b] >= proof.thresholds_B[b]).all()
            assert proof.rescored_B[b] == (~beaten_N[2000:]).sum() < 200

    @pytest.mark.parametrize("batch", [1, 3, 40])
    def test_a_scan_that_norms_end_is_brute_force(self, batch: int) -> None:
        """More rows than are scanned before it is asked which may win; long ones anywhere, some added later."""
        rng = np.random.default_rng(batch)
        items_ND = table(14_000, 12) * np.exp(rng.normal(0, 1.5, (14_000, 1))).astype(np.float32)
        items_ND[rng.integers(0, 14_000, 2000)] = items_ND[:2000]
        index, queries_BD = self.build(items_ND[:13_000]).add(items_ND[13_000:]), table(batch, 12, seed=1)
        if batch > 1:
            queries_BD[1] = 0
        exclude = Jagged.from_rows([rng.integers(0, 14_000, 300 * (b % 9)) for b in range(batch)])
        allowed_N = rng.random(14_000) < 0.3
        for k in (1, 10, 900):
            self.check(index, queries_BD, k)
            self.check(index, queries_BD, k, exclude, allowed_N)

    @pytest.mark.parametrize("batch", [1, 12])
    def test_a_row_whose_norm_just_reaches_the_best_is_found(self, batch: int) -> None:
        """A score equal to its norm, as large as what the longest rows score: it comes first, by its number."""
        direction_D = np.float32([0.5, -0.5, 0.5, 0.5])
        sizes_N = np.random.default_rng(0).uniform(0.01, 0.1, 20_000).astype(np.float32)
        sizes_N[[77, 14_600]] = 2, 1.9999
        items_ND = sizes_N[:, None] * direction_D
        items_ND[5000:13_192] = 5, 3, 5, -3  # of norm 8.2 and score 2, 16 blocks of them
        index = self.build(items_ND)
        queries_BD = np.repeat(direction_D[None], batch, axis=0) * np.arange(1, batch + 1, dtype=np.float32)[:, None]
        assert index.search(queries_BD, 5).items_BK.tolist() == [[77, 5000, 5001, 5002, 5003]] * batch
        left = index.remove(np.arange(5002, 13_192)).search(queries_BD, 4)
        assert left.items_BK.tolist() == [[77, 5000, 5001, 14_600]] * batch

    def test_added_rows_come_after_the_others(self) -> None:
        whole_ND, queries_BD = table(1301, 24), table(7, 24, seed=1)
        index = grown = self.build(whole_ND[:3])
        for first, last in ((3, 11), (11, 16), (16, 700), (700, 701), (701, 1301)):
            before = grown
            grown = grown.add(whole_ND[first:last])
            self.check(grown, queries_BD, 20)
            self.check(before, queries_BD, 20)  # the one it came from answers as it did
        self.check(index, queries_BD, 2)
        np.testing.assert_array_equal(grown.items_ND, whole_ND)
        again = index.add(whole_ND[900:910])  # a second heir does not disturb the first
        self.check(again, queries_BD, 5)
        self.check(grown, queries_BD, 20)
        for query_D in queries_BD:
            lower_N, upper_N = grown.bounds(query_D)
            scores_N = whole_ND.astype(np.float64) @ query_D.astype(np.float64)
            assert ((lower_N <= scores_N) & (scores_N <= upper_N)).all()

    def test_added_rows_are_checked(self) -> None:
        index = self.build(table(20, 8))
        more = table(3, 8)
        more[1, 2] = np.nan
        with pytest.raises(InputError, match="row 1 of the added items"):
            index.add(more)
        assert self.build(np.empty((0, 8), np.float32)).add(more[:1]).search(more[:1], 1).items_BK.tolist() == [[0]]
        assert len(index.add(np.empty((0, 8), np.float32)).items_ND) == 20

    def test_removed_rows_are_never_answered(self, tmp_path: Path) -> None:
        items_ND, queries_BD = table(300, 16), table(9, 16, seed=1)
        index = self.build(items_ND)
        best = np.unique(index.search(queries_BD, 5).items_BK)
        left = index.remove(best[:10]).remove(best[10:])
        keep_N = np.ones(300, np.bool_)
        keep_N[best] = False
        allowed_N = np.random.default_rng(0).random(300) < 0.5
        exclude = Jagged.from_rows([np.arange(b) for b in range(9)])
        (tmp_path / "index").write_bytes(serialize(left.tensors()))
        stored = type(index).from_tensors(items_ND, map_tensors(tmp_path / "index"))
        for one in (left, stored):
            for extra_N in (np.ones(300, np.bool_), allowed_N):
                hits = one.search(queries_BD, 12, exclude, extra_N)
                expected = index.search(queries_BD, 12, exclude, extra_N & keep_N)
                np.testing.assert_array_equal(hits.items_BK, expected.items_BK)
        more = left.add(items_ND[best])
        hits = more.search(queries_BD, 5)
        assert (hits.items_BK[:, 0] >= 300).all()
        assert not np.isin(hits.items_BK, best).any()
        everything = index.remove(np.arange(300)).search(queries_BD, 3)
        assert (everything.items_BK == -1).all()
        for wrong in (300, -1):
            with pytest.raises(InputError, match="cannot be removed from an index of 300 items"):
                index.remove(np.array([wrong]))

    def test_everything_excluded_or_forbidden(self) -> None:
        index, queries_BD = self.build(table(20, 8)), table(2, 8, seed=1)
        none = index.search(queries_BD, 5, Jagged.from_rows([np.arange(20)] * 2))
        assert (none.items_BK == -1).all()
        assert np.isneginf(none.scores_BK).all()
        none = index.search(queries_BD, 5, None, np.zeros(20, np.bool_))
        assert (none.items_BK == -1).all()

    def test_empty_table_and_empty_batch(self) -> None:
        hits = self.build(np.empty((0, 8), np.float32)).search(table(2, 8), 3)
        assert hits.items_BK.tolist() == [[-1] * 3] * 2
        assert self.build(table(4, 8)).search(np.empty((0, 8), np.float32), 3).items_BK.shape == (0, 3)

    def test_excluded_rows_may_repeat_and_come_in_any_order(self) -> None:
        self.check(self.build(table(50, 8)), table(1, 8, seed=1), 10, Jagged.from_rows([[9, 3, 3, 40, 9]]))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2 * MAX_NORM])
    def test_impossible_rows_and_queries_are_refused_by_number(self, bad: float) -> None:
        items_ND = table(20, 8)
        index = self.build(items_ND.copy())
        items_ND[7, 3] = bad
        with pytest.raises(InputError, match="row 7 of the item table"):
            self.build(items_ND)
        with pytest.raises(InputError, match="row 0 of the query vectors"):
            index.search(items_ND[7:8], 3)

    def test_tables_of_other_layouts(self) -> None:
        items_ND = np.asfortranarray(table(60, 8))
        self.check(self.build(items_ND), table(2, 8, seed=1), 5)
