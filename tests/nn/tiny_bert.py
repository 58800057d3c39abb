"""A BERT of two narrow layers with a vocabulary of its own, saved as transformers saves one: no download needed."""

from __future__ import annotations

import json
import tempfile
import warnings
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra `text`")
pytest.importorskip("tokenizers", reason="needs the extra `text`")

WORDS = ["item", "new", "even", "odd", "red", "blue", "lamp", "mug", "toy", "story", ".", ",", *"0123456789"]
PIECES = [f"##{digit}" for digit in "0123456789"]


def save_tiny_bert(folder: Path, *, pooling: str | None = "mean", normalise: bool = False, seed: int = 0) -> Path:
    """`folder`, filled. pooling: what its 1_Pooling says; None leaves the sentence-transformers files out."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    vocabulary = {word: row for row, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *PIECES])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        initializer_range=0.3, pad_token_id=0,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    if pooling is not None:
        modules = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
        modules += [{"path": "2_Normalize", "type": "x.Normalize"}] if normalise else []
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        said = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    return folder


@cache
def tiny_bert() -> str:
    """One for all tests that only read it."""
    return str(save_tiny_bert(Path(tempfile.mkdtemp(prefix="leanrec-tiny-bert-"))))
