"""A language model that learns together with the recommender: whole, or by low-rank additions (LoRA)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from leanrec.core.console import say
from leanrec.core.errors import MissingExtra
from leanrec.nn.text.base import Catalogue, ItemText, Projection, TextOptions
from leanrec.nn.text.encoder import TextEncoder, quiet
from leanrec.nn.text.fixed import text_vectors

__all__ = ["TunedText"]


class TunedOptions(TextOptions, frozen=True, kw_only=True):
    """Settings of a language model that learns."""

    finetune: Literal["lora", "full"] = "lora"
    rank: int = 8
    """Of LoRA's additions to queries and values (arXiv:2106.09685)."""
    rate: float = 0.02
    """Learning rate of the language model as a share of the others'."""
    head_steps: int = 0
    """Steps in which the language model stands still and the rest learns."""
    recompute: bool = True
    """Activations of the language model are computed again in the backward pass instead of kept."""


class TunedText(ItemText):
    """An item is its text, whose vector moves with training. The first `head_steps` steps use the encoded texts."""

    Options = TunedOptions
    vectors_NE: Tensor

    def __init__(self, config: TunedOptions, catalogue: Catalogue, dim: int) -> None:
        super().__init__(config, catalogue, dim)
        vectors_NE = text_vectors(catalogue.texts, config)
        self.register_buffer("vectors_NE", torch.from_numpy(vectors_NE), persistent=False)
        self.projection = Projection(vectors_NE, dim)
        self.encoder = TextEncoder(config.encoder, pooling=config.pooling, max_tokens=config.max_tokens)
        self._tokens = self.encoder.tokens(catalogue.texts)
        self._head_steps, self.slow_rate = config.head_steps, config.rate
        self._made: tuple[int, Tensor] | None = None
        if config.finetune == "lora":
            self.encoder.backbone = _with_lora(self.encoder.backbone, config.rank)
        if config.recompute:
            self.encoder.backbone.activation_checkpointing_enable({"use_reentrant": False})
        learned = sum(p.numel() for p in self.encoder.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.encoder.parameters())
        say(f"text encoder, {config.finetune}: {learned:,} of {total:,} weights learn ({learned / total:.2%})")

    def forward(self, leaf_UD: Tensor, rows_U: Tensor, step: int) -> Tensor:
        if step <= self._head_steps:
            vectors_UE = self.vectors_NE.index_select(0, rows_U)
        elif not self.training and len(rows_U) == len(self._tokens):
            vectors_UE = self._all(step)
        else:
            vectors_UE = self.encoder.encode(self._tokens.take(rows_U.numpy().astype(np.int64)))
        projected: Tensor = self.projection(vectors_UE)
        return leaf_UD + projected

    def _all(self, step: int) -> Tensor:
        """(N, E) vectors of the catalogue after that step, which validation, bundle and result all ask for."""
        if self._made is None or self._made[0] != step:
            self._made = (step, self.encoder.encode(self._tokens, progress="encoding texts"))
        return self._made[1]

    def penalty(self, leaf_UD: Tensor, rows_U: Tensor) -> None:
        return None

    def slow(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]


def _with_lora(backbone: nn.Module, rank: int) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError as error:
        raise MissingExtra("text", error.name or "peft", "finetune=lora") from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=["query", "value"])
    with quiet():  # peft asks transformers by a deprecated name
        adapted: nn.Module = get_peft_model(backbone, config)
    return adapted
