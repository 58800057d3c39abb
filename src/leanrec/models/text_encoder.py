"""Items are what is written about them: vectors of a language model, and a transformer (or a mean) over the history."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from leanrec.core.config import to_dict
from leanrec.core.console import say
from leanrec.core.errors import ConfigError, InputError
from leanrec.core.space import Choice, Dimension
from leanrec.data.dataset import Dataset
from leanrec.features.texts import item_texts
from leanrec.index.exact import ExactIndex
from leanrec.models.additions import Additions, grown_source, kept_newcomers, with_items
from leanrec.models.assembly import assemble
from leanrec.models.base import FitOptions, Model
from leanrec.models.popular import popular_fallback
from leanrec.models.transformer import TransformerConfig, TransformerModel
from leanrec.nn.text import TextOptions
from leanrec.nn.text.encoder import Pooling
from leanrec.nn.text.fixed import text_vectors
from leanrec.nn.text.loading import DEFAULT_ENCODER
from leanrec.nn.text.newcomers import encoded, text_facts
from leanrec.runtime.engines.factors import FactorsConfig, FactorsEngine
from leanrec.runtime.newcomers import Newcomers
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.training.memory import MemoryNeed

__all__ = ["TextEncoder", "TextEncoderConfig"]


class TextEncoderConfig(TransformerConfig, frozen=True, kw_only=True):
    """Settings of the language model and of the head over the history."""

    encoder: str = DEFAULT_ENCODER
    """A folder, a hub name, or one that comes as a package: all-minilm-l6-v2."""
    template: str | None = None
    """An item's text, with columns in braces; None takes title, categories, description and the like as they are."""
    pooling: Pooling | None = None
    """`mean` or `cls`; as the encoder's folder says."""
    max_tokens: int | None = None
    """Longer texts are cut; as the encoder's folder says."""
    head: Literal["transformer", "mean"] = "transformer"
    """What stands over the history: a transformer that learns, or the mean of the item vectors, without training."""
    finetune: Literal["frozen", "lora", "full"] = "frozen"
    """What of the language model learns: nothing, low-rank additions (peft), or all of it."""
    rank: int = 8
    """Of the low-rank additions."""
    rate: float = 0.02
    """Learning rate of the language model as a share of the head's."""
    head_steps: int = 1000
    """Steps in which only the head learns, before the language model does too."""
    recompute: bool = True
    """Activations of the language model are computed again in the backward pass instead of kept."""
    table: str = "none"
    """Items have no rows of their own."""

    space: ClassVar[Mapping[str, Dimension]] = {
        **TransformerConfig.space,
        "head": Choice(("transformer", "mean")),
    }

    def encoding(self) -> TextOptions:
        """What of this concerns the vector of a text."""
        return TextOptions(
            encoder=self.encoder, template=self.template, pooling=self.pooling, max_tokens=self.max_tokens
        )


class _Head(TransformerModel):
    """A transformer over text vectors."""

    name: ClassVar[str] = "text-encoder"
    Config = TextEncoderConfig
    block: ClassVar[str] = "ligr"


class TextEncoder(Model[TextEncoderConfig]):
    """Items that nobody has had yet are recommended too: their vectors need no events.

    `text` and `text_options` follow from the other settings. What is served needs no language model.
    """

    name: ClassVar[str] = "text-encoder"
    Config = TextEncoderConfig

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        if self.config.head == "mean":
            return self._mean(data, options)
        started = time.perf_counter()
        fitted = self._transformer().fit_with(data, options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        say(f"text-encoder, {self.config.finetune}: {time.perf_counter() - started:.0f} s, peak memory {peak:,} MiB")
        return fitted

    def add_items(self, recommender: Recommender, added: Additions) -> Recommender:
        """A new item is its text, as all are; with LoRA or full fine-tuning the language model is not kept for that."""
        if self.config.head != "mean":
            return self._transformer().add_items(recommender, added)
        kept = kept_newcomers(recommender)
        texts = item_texts(added.fresh, kept.config["template"])
        fresh_MD = _cosines(encoded(texts, kept.config), kept.tensors["mean_E"])
        return with_items(recommender, grown_source(recommender.source, fresh_MD), added)

    def memory(self, data: Dataset) -> MemoryNeed:
        """What training on this data into a run folder needs, beside the language model and what the process holds."""
        return self._transformer().memory(data)

    def _transformer(self) -> _Head:
        config = self.config
        options = to_dict(config.encoding())
        if config.finetune != "frozen":
            options |= {name: getattr(config, name) for name in _TUNING}
        kind = "alone" if config.finetune == "frozen" else "tuned"
        return _Head(config, text=kind, text_options=options)

    def _mean(self, data: Dataset, options: FitOptions) -> Recommender:
        """Nothing is trained: the query is the mean of the history's vectors, at which length 1 makes cosines."""
        if self.config.finetune != "frozen":
            raise ConfigError(f"head=mean trains nothing, so finetune={self.config.finetune} needs head=transformer")
        if data.attributes is None:
            raise InputError(f"text-encoder needs titles: prepare {data.name} with --items FILE")
        text = self.config.encoding()
        vectors_NE = text_vectors(item_texts(data.attributes, text.template), text)
        mean_E = vectors_NE.mean(axis=0)
        items_ND = _cosines(vectors_NE, mean_E)
        engine = FactorsEngine(FactorsConfig(fold="mean"), {}, items_ND)
        source = EmbeddingSource(self.name, engine, ExactIndex.build(items_ND))
        fallback = popular_fallback(data, refit=options.refit)
        recommender = assemble(self, source, data, options, fallback=fallback)
        recommender.newcomers = Newcomers(text_facts(text), {"mean_E": mean_E})
        return recommender


def _cosines(vectors_NE: npt.NDArray[np.float32], mean_E: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Without what all texts share, of length 1."""
    items_ND: npt.NDArray[np.float32] = vectors_NE - mean_E
    items_ND /= np.maximum(np.linalg.norm(items_ND, axis=1, keepdims=True), np.float32(1e-9))
    return items_ND


_TUNING = ("finetune", "rank", "rate", "head_steps", "recompute")
