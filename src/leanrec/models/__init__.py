"""One file a model: its configuration and how it wires nn/ together. `MODELS` names them all."""

from typing import Any

from leanrec.core.registry import Entry, Registry
from leanrec.models.base import Model

__all__ = ["MODELS", "Model"]

MODELS: Registry[Model[Any]] = Registry(
    "model",
    {
        "popular": Entry("leanrec.models.popular:Popular", "most interactions of all time"),
        "popular-recent": Entry("leanrec.models.popular:PopularRecent", "most interactions of the last days"),
        "item-knn": Entry("leanrec.models.item_knn:ItemKNN", "items that share users with the history"),
        "sasrec": Entry("leanrec.models.sasrec:SASRec", "causal transformer over the history", "train"),
        "esasrec": Entry("leanrec.models.esasrec:ESASRec", "LiGR transformer with sampled softmax", "train"),
        "gsasrec": Entry("leanrec.models.gsasrec:GSASRec", "SASRec with a calibrated binary loss", "train"),
        "bert4rec": Entry("leanrec.models.bert4rec:BERT4Rec", "bidirectional transformer, hidden events", "train"),
        "gru4rec": Entry("leanrec.models.gru4rec:GRU4Rec", "gated recurrent units over the history", "train"),
        "caser": Entry("leanrec.models.caser:Caser", "convolutions over the last few items", "train"),
        "hstu": Entry("leanrec.models.hstu:HSTU", "pointwise attention with relative position and time", "train"),
        "text-encoder": Entry(
            "leanrec.models.text_encoder:TextEncoder", "items as a language model reads them, new ones too", "text"
        ),
        "hybrid": Entry("leanrec.models.hybrid:Hybrid", "several models merged, re-ranked, with fallbacks"),
    },
)


def __getattr__(name: str) -> Any:
    """The models as classes too: `models.ESASRec` is `MODELS["esasrec"]`."""
    classes = {entry.target.partition(":")[2]: key for key, entry in MODELS.entries.items()}
    if name not in classes:
        raise AttributeError(f"leanrec.models has no {name!r}; there are: {', '.join(classes)}")
    return MODELS[classes[name]]
