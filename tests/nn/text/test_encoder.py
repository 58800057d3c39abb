"""Texts to vectors: against transformers' own padded batches, and against nothing being there."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import InputError, MachineError
from leanrec.core.jagged import Jagged
from leanrec.nn.text import encoder as encoding
from leanrec.nn.text import loading
from leanrec.nn.text.bert import FastBert
from leanrec.nn.text.encoder import TextEncoder, batches
from leanrec.nn.text.loading import encoder_folder, fingerprint

from ..tiny_bert import WORDS, save_tiny_bert, tiny_bert

TEXTS = ["toy story", "red lamp 7", "", "item", "blue mug , red mug . new toy", "red lamp 7", "odd " * 60]


def by_transformers(folder: str, texts: list[str], *, pooling: str, cut: int = 24) -> np.ndarray:
    """With padding, masks and AutoTokenizer."""
    from transformers import AutoModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json", pad_token="[PAD]")
    with encoding.quiet():
        model = AutoModel.from_pretrained(folder).eval()
    given = tokenizer(texts, padding=True, truncation=True, max_length=cut, return_tensors="pt")
    given.pop("token_type_ids", None)
    with torch.no_grad():
        hidden = model(**given).last_hidden_state
    if pooling == "cls":
        return hidden[:, 0].numpy()
    mask = given["attention_mask"][..., None]
    return ((hidden * mask).sum(1) / mask.sum(1)).numpy()


@pytest.fixture
def plain(monkeypatch):
    """A processor without bfloat16."""
    monkeypatch.setattr(encoding, "cpu_flags", frozenset)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_those_of_padded_batches(plain, pooling):
    found = TextEncoder(tiny_bert(), pooling=pooling).vectors(TEXTS)
    np.testing.assert_allclose(found, by_transformers(tiny_bert(), TEXTS, pooling=pooling), rtol=1e-4, atol=1e-5)


def test_without_the_fast_path_they_are_the_same(plain, monkeypatch):
    fast = TextEncoder(tiny_bert()).vectors(TEXTS)
    monkeypatch.setattr(FastBert, "fits", lambda _: False)
    np.testing.assert_allclose(TextEncoder(tiny_bert()).vectors(TEXTS), fast, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close(monkeypatch):
    monkeypatch.setattr(encoding, "cpu_flags", frozenset)
    exact = TextEncoder(tiny_bert()).vectors(TEXTS)
    monkeypatch.setattr(encoding, "cpu_flags", lambda: {"avx512_bf16"})
    rough = TextEncoder(tiny_bert()).vectors(TEXTS)
    cosines = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert cosines.min() > 0.999


def test_the_folder_says_how_to_pool(tmp_path):
    first = TextEncoder(str(save_tiny_bert(tmp_path / "first", pooling="cls", normalise=True)))
    assert (first.pooling, first.normalise) == ("cls", True)
    np.testing.assert_allclose(np.linalg.norm(first.vectors(TEXTS), axis=1), 1, rtol=1e-5)
    bare = TextEncoder(str(save_tiny_bert(tmp_path / "bare", pooling=None)))
    assert (bare.pooling, bare.normalise, bare.max_tokens, bare.dim) == ("mean", False, 24, 16)


def test_long_texts_are_cut(plain):
    encoder = TextEncoder(tiny_bert(), max_tokens=5)
    assert encoder.tokens(TEXTS).lengths.max() == 5
    np.testing.assert_allclose(
        encoder.vectors(TEXTS), by_transformers(tiny_bert(), TEXTS, pooling="mean", cut=5), rtol=1e-4, atol=1e-5
    )


def test_gradients_reach_the_language_model():
    encoder = TextEncoder(tiny_bert())
    encoder.encode(encoder.tokens(TEXTS)).square().sum().backward()
    assert all(p.grad is not None for name, p in encoder.named_parameters() if "position" not in name)


def test_nothing_to_encode():
    assert TextEncoder(tiny_bert()).vectors([]).shape == (0, 16)


@given(lengths=st.lists(st.integers(1, 40), max_size=60), size=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_batches_hold_every_text_once_and_no_padding(lengths, size):
    tokens = Jagged.from_lengths(np.arange(sum(lengths), dtype=np.int32), np.asarray(lengths, np.int64))
    seen = []
    for rows, tokens_BL in batches(tokens, size):
        assert tokens_BL.size <= max(size, tokens_BL.shape[1])
        for row, values in zip(rows.tolist(), tokens_BL, strict=True):
            np.testing.assert_array_equal(values, tokens[row])
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))


@given(st.lists(st.sampled_from(WORDS), max_size=10).map(" ".join))
@settings(max_examples=25, deadline=None)
def test_a_text_alone_is_as_in_company(text):
    encoder = _shared()
    np.testing.assert_allclose(encoder.vectors([text])[0], encoder.vectors([*TEXTS, text])[-1], rtol=0.02, atol=0.02)


def _shared(kept: list[TextEncoder] = []) -> TextEncoder:  # noqa: B006
    if not kept:
        kept.append(TextEncoder(tiny_bert()))
    return kept[0]


def test_a_folder_that_is_no_encoder(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        encoder_folder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="unpickling"):
        encoder_folder(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="tokenizer"):
        encoder_folder(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="no encoder that transformers can load"):
        TextEncoder(str(tmp_path))
    with pytest.raises(InputError, match="is not a folder"):
        encoder_folder("./nowhere")


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_hub_one_sentence_says_so_at_once(monkeypatch, tmp_path, offline):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(MachineError, match="--set encoder=FOLDER") as caught:
        encoder_folder("someone/some-encoder")
    assert "\n" not in str(caught.value) and "all-minilm-l6-v2" in str(caught.value)
    assert time.monotonic() - started < 3 * loading._PROBE_SECONDS


def test_a_fingerprint_is_the_content_not_the_name(tmp_path):
    one, same = (save_tiny_bert(tmp_path / name) for name in ("one", "same"))
    other = save_tiny_bert(tmp_path / "other", seed=1)
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    assert fingerprint(one) != fingerprint(one, "cut at 5")
    (one / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert fingerprint(one) != fingerprint(same)
