"""Texts to vectors by a language model of BERT kind: tokens end to end, batches of one length, no padding."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from leanrec.core.console import Progress
from leanrec.core.errors import InputError, MissingExtra
from leanrec.core.jagged import Jagged
from leanrec.core.machine import cpu_flags
from leanrec.nn.text.bert import FastBert
from leanrec.nn.text.loading import encoder_folder, read_json

__all__ = ["Pooling", "TextEncoder", "batches", "quiet"]

Pooling = Literal["mean", "cls"]
_BATCH_TOKENS = 2048


class TextEncoder(nn.Module):
    """A Hugging Face encoder with its tokenizer; the vector of a text is the mean of its tokens', or the first one's.

    name: a folder, a packaged encoder or a hub name (nn.text.loading). pooling: None takes what the folder says
    (`modules.json` as sentence-transformers writes it), else the mean. max_tokens: longer texts are cut; None: as the
    folder says. Vectors have length 1 where the folder asks for that.
    """

    def __init__(self, name: str, *, pooling: Pooling | None = None, max_tokens: int | None = None) -> None:
        super().__init__()
        folder = encoder_folder(name)
        self.backbone, self.tokenizer = _load(folder)
        said = _pooling(folder)
        self.pooling: Pooling = pooling or said or "mean"
        self.normalise = any("Normalize" in str(part.get("type")) for part in _modules(folder))
        room = int(getattr(self.backbone.config, "max_position_embeddings", 512))
        asked = max_tokens or int(read_json(folder / "sentence_bert_config.json").get("max_seq_length", room))
        self.max_tokens = min(asked, room)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)
        self.eval()

    @property
    def dim(self) -> int:
        """E of the vectors."""
        return int(self.backbone.config.hidden_size)

    def tokens(self, texts: Sequence[str]) -> Jagged:
        """(N) rows of int32 token numbers, with what the model puts before and after a text."""
        found = self.tokenizer.encode_batch_fast(list(texts))
        return Jagged.from_rows([one.ids for one in found], np.int32)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """(B, E) vectors of B texts of the same number of tokens (int64)."""
        return self._pooled(self.backbone(input_ids=tokens_BL).last_hidden_state)

    def _pooled(self, hidden_BLE: Tensor) -> Tensor:
        vectors_BE: Tensor = hidden_BLE[:, 0] if self.pooling == "cls" else hidden_BLE.mean(dim=1)
        return nn.functional.normalize(vectors_BE, dim=1) if self.normalise else vectors_BE

    def encode(self, tokens: Jagged, *, progress: str | None = None) -> Tensor:
        """(N, E) float32 vectors of N texts in their order, with gradients where those are wanted.

        Texts of the same length go through the model together, so that no token is padding.
        """
        return self._in_order(tokens, self, progress)

    def _in_order(self, tokens: Jagged, encode: Callable[[Tensor], Tensor], progress: str | None) -> Tensor:
        orders, parts = [], []
        with Progress(progress, len(tokens)) if progress else contextlib.nullcontext() as bar:
            for rows, tokens_BL in batches(tokens):
                orders.append(rows)
                parts.append(encode(torch.from_numpy(tokens_BL)).float())
                if bar is not None:
                    bar.advance(len(rows))
        if not parts:
            return torch.empty(0, self.dim)
        back = np.empty(len(tokens), np.int64)
        back[np.concatenate(orders)] = np.arange(len(tokens))
        return torch.cat(parts).index_select(0, torch.from_numpy(back))

    @torch.no_grad()
    def vectors(self, texts: Sequence[str], *, progress: str | None = None) -> npt.NDArray[np.float32]:
        """(N, E) vectors of texts, for keeping; equal texts are encoded once.

        BERT itself runs in bfloat16 where the processor multiplies it; vectors then differ by about 1e-5 in cosine.
        """
        distinct = list(dict.fromkeys(texts))
        place = {text: row for row, text in enumerate(distinct)}
        encode: Callable[[Tensor], Tensor] = self.eval()
        if FastBert.fits(self.backbone):
            fast = FastBert(self.backbone, torch.bfloat16 if "avx512_bf16" in cpu_flags() else torch.float32)
            encode = lambda tokens_BL: self._pooled(fast(tokens_BL))  # noqa: E731
        found: npt.NDArray[np.float32] = self._in_order(self.tokens(distinct), encode, progress).numpy()
        return found[[place[text] for text in texts]]


def batches(tokens: Jagged, batch_tokens: int = _BATCH_TOKENS) -> Iterator[tuple[npt.NDArray[np.int64], Any]]:
    """Rows and their (B, L) int64 tokens, all of one length, about `batch_tokens` tokens a batch; long texts first."""
    lengths = tokens.lengths
    order = np.argsort(-lengths, kind="stable")
    edges = np.flatnonzero(np.diff(lengths[order])) + 1
    for rows in np.split(order, edges):
        length = int(lengths[rows[0]]) if len(rows) else 0
        step = max(1, batch_tokens // max(length, 1))
        for low in range(0, len(rows), step):
            some = rows[low : low + step]
            yield some, tokens.take(some).values.reshape(len(some), length).astype(np.int64)


def _load(folder: Path) -> tuple[Any, Any]:
    """The model in float32 and the tokenizer of a folder; nothing in it is executed or unpickled."""
    try:
        from tokenizers import Tokenizer
        from transformers import AutoModel
    except ModuleNotFoundError as error:
        raise MissingExtra("text", error.name or "transformers", "a text encoder") from error
    with quiet():
        try:
            tokenizer = _tokenizer(folder, Tokenizer)
            backbone = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"{folder} is no encoder that transformers can load: {_first_line(error)}") from error
    if getattr(backbone, "pooler", None) is not None:  # learned for another task, and not part of a text's vector
        backbone.pooler = None
    return backbone.eval(), tokenizer


def _tokenizer(folder: Path, kind: Any) -> Any:
    if (folder / "tokenizer.json").is_file():
        try:
            return kind.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises nothing more exact
            raise ValueError(f"tokenizer.json: {_first_line(error)}") from error
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False).backend_tokenizer


def _modules(folder: Path) -> Sequence[dict[str, Any]]:
    return list(read_json(folder / "modules.json") or ())


def _pooling(folder: Path) -> Pooling | None:
    config = read_json(folder / "1_Pooling" / "config.json")
    if config.get("pooling_mode_cls_token"):
        return "cls"
    return "mean" if config.get("pooling_mode_mean_tokens") else None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Loading without the libraries' own warnings and progress bars, which say nothing that concerns a user here."""
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [one.level for one in loggers]
    from transformers.utils import logging as own

    bars = own.is_progress_bar_enabled()
    own.disable_progress_bar()
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
        if bars:
            own.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
