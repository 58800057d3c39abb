"""Hashes of texts: the kernel is its reference, values never change, different texts hardly ever share one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.hashing import hash_pairs, hash_texts, hash_texts_reference


def packed(texts):
    raw = [text.encode() for text in texts]
    offsets = np.zeros(len(raw) + 1, np.int64)
    np.cumsum([len(text) for text in raw], out=offsets[1:])
    return np.frombuffer(b"".join(raw), np.uint8), offsets


@settings(deadline=None)
@given(st.lists(st.text(max_size=12), max_size=20))
def test_the_kernel_is_its_reference(texts):
    raw, offsets = packed(texts)
    np.testing.assert_array_equal(hash_texts(raw, offsets), hash_texts_reference(raw, offsets))


GOLDEN = [0, 17360999193197444373, 6688563545378563224, 10839691727068557888]


def test_values_stay_the_same_for_ever():
    hashes = hash_texts_reference(*packed(["", "a", "68fd1e64", "München"]))
    assert hashes.tolist() == GOLDEN


def test_texts_that_are_close_do_not_collide():
    texts = [f"{n:08x}" for n in range(100_000)] + [str(n) for n in range(100_000)] + [f"{n}.5" for n in range(50_000)]
    assert len(np.unique(hash_texts(*packed(texts)))) == len(set(texts))


def test_pairs_have_an_order():
    a, b = np.arange(1000, dtype=np.uint64), np.arange(1000, dtype=np.uint64)[::-1].copy()
    assert len(np.unique(np.concatenate([hash_pairs(a, b), hash_pairs(a, a)]))) == 2000
