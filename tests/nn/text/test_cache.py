"""Vectors that were made before are not made again."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from leanrec.nn.text.cache import VectorCache


def counting(asked: list[list[str]]):
    def encode(texts):
        asked.append(list(texts))
        return np.asarray([[len(text), ord(text[0]) if text else 0] for text in texts], np.float32)

    return encode


def test_only_new_texts_are_encoded(tmp_path):
    asked: list[list[str]] = []
    first = VectorCache("ab", tmp_path).vectors(["one", "two", "one"], counting(asked))
    assert asked == [["one", "two"]]
    np.testing.assert_array_equal(first, [[3, 111], [3, 116], [3, 111]])
    again = VectorCache("ab", tmp_path)
    np.testing.assert_array_equal(again.vectors(["three", "two", ""], counting(asked)), [[5, 116], [3, 116], [0, 0]])
    assert asked[1:] == [["three", ""]]
    assert len(VectorCache("ab", tmp_path)) == 4
    VectorCache("ab", tmp_path).vectors(["", "one"], counting(asked))
    assert len(asked) == 2


def test_another_encoder_has_its_own(tmp_path):
    asked: list[list[str]] = []
    VectorCache("ab", tmp_path).vectors(["one"], counting(asked))
    VectorCache("cd", tmp_path).vectors(["one"], counting(asked))
    assert len(asked) == 2


def test_a_damaged_file_is_ignored_and_made_again(tmp_path):
    asked: list[list[str]] = []
    VectorCache("ab", tmp_path).vectors(["one"], counting(asked))
    (file,) = (tmp_path / "ab").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    found = VectorCache("ab", tmp_path).vectors(["one"], counting(asked))
    np.testing.assert_array_equal(found, [[3, 111]])
    assert len(asked) == 2


def test_no_texts(tmp_path):
    assert VectorCache("ab", tmp_path).vectors([], counting([])).shape == (0, 0)
