"""Language models as encoders of items: how texts enter item vectors, one file a way, by name in `TEXTS`."""

from collections.abc import Mapping
from typing import Any

from leanrec.core.config import build
from leanrec.core.registry import Entry, Registry
from leanrec.nn.text.base import Catalogue, ItemText, TextOptions

__all__ = ["TEXTS", "Catalogue", "ItemText", "TextOptions", "make_item_text"]

TEXTS: Registry[ItemText] = Registry(
    "way of using texts",
    {
        "alone": Entry("leanrec.nn.text.fixed:TextAlone", "item vectors from texts, no ids", "text"),
        "gate": Entry("leanrec.nn.text.fixed:GatedText", "a learned mix of id and text", "text"),
        "align": Entry("leanrec.nn.text.fixed:AlignedText", "ids pulled towards their texts", "text"),
        "tuned": Entry("leanrec.nn.text.tuned:TunedText", "texts through a language model that learns too", "text"),
    },
)


def make_item_text(name: str, options: Mapping[str, Any], catalogue: Catalogue, dim: int) -> ItemText:
    """The way of that name for these items; an option it does not have is a ConfigError naming the nearest."""
    kind = TEXTS[name]
    return kind(build(kind.Options, options, where=f"text {name}"), catalogue, dim)
