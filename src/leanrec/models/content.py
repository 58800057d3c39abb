"""Content: items whose attributes are like those of the history (Lops et al. 2011). New items need no interaction.

Attributes become sparse vectors (models/attribute_vectors.py); a score is the cosine of an item's vector with the
weighted sum of the history's. At serving nothing but these vectors is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from leanrec.core.config import Config
from leanrec.core.console import say
from leanrec.core.errors import ConfigError
from leanrec.core.ids import Vocabulary
from leanrec.core.registry import nearest
from leanrec.core.space import Dimension, Range
from leanrec.data.dataset import Dataset
from leanrec.models.additions import Additions, with_items
from leanrec.models.assembly import assemble
from leanrec.models.attribute_vectors import Block, blocks_of, combined
from leanrec.models.base import FitOptions, Model
from leanrec.models.growth import Growth, grow, grown_attributes
from leanrec.models.judges import Judges
from leanrec.models.popular import popular_fallback
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.content import ContentSource

__all__ = ["Content", "ContentConfig"]

DEFAULTS_VERSION = 1
_WEIGHTS = (1.0, 0.0, 0.3, 3.0)


class ContentConfig(Config, frozen=True, kw_only=True):
    """What is None is tried out on validation events of users that tune (defaults version 1), and printed."""

    columns: dict[str, float] | None = None
    """Item attributes and what each weighs; those not named weigh nothing. Without validation all weigh 1."""
    half_life: float | None = None
    """Events after which an event of the history counts half; 0 lets all count alike."""
    window: int = 2000
    """Events of a user that count, the newest."""

    space: ClassVar[Mapping[str, Dimension]] = {"half_life": Range(0.5, 200.0, log=True)}

    def __post_init__(self) -> None:
        for column, weight in (self.columns or {}).items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"columns: the weight of {column!r} must be at least 0, not {weight}")
        for key, least in (("half_life", 0), ("window", 1)):
            value = getattr(self, key)
            if value is not None and not value >= least:
                raise ValueError(f"{key} must be at least {least}, not {value}")


class Content(Model[ContentConfig]):
    """Items whose attributes are like those of the history."""

    name: ClassVar[str] = "content"
    Config = ContentConfig

    def fit_with(self, data: Dataset, options: FitOptions) -> Recommender:
        blocks = self._blocks(data.attributes, data.name)
        columns, half_life = self._choose(blocks, data, options)
        chosen: dict[str, Any] = {"columns": columns, "half_life": half_life}
        fallback = popular_fallback(data, refit=options.refit)
        source = self._source(blocks, columns, half_life)
        return assemble(self, source, data, options, fallback=fallback, chosen=chosen)

    def update(self, recommender: Recommender, data: Dataset, options: FitOptions) -> Recommender:
        """Exactly the vectors of old and new items together, with the settings chosen before; no events are needed."""
        card = recommender.card["config"]
        growth = Growth.of(Vocabulary([]), recommender.items, data, refit=options.refit)
        attributes = grown_attributes(recommender, growth.items, data)
        assert attributes is not None
        source = self._source(self._blocks(attributes.frame, data.name), card["columns"], card["half_life"])
        return grow(recommender, source, growth, data)

    def add_items(self, recommender: Recommender, added: Additions) -> Recommender:
        """Exactly the vectors of old and new items together: how rare a word is counts in all of them."""
        card = recommender.card["config"]
        source = self._source(self._blocks(added.attributes, "the bundle"), card["columns"], card["half_life"])
        return with_items(recommender, source, added)

    def _blocks(self, attributes: pl.DataFrame | None, name: str) -> list[Block]:
        blocks = [] if attributes is None else blocks_of(attributes)
        if not blocks:
            raise ConfigError(f"content needs attributes of items, and {name} has none: prepare its data with --items")
        known = [block.column for block in blocks]
        for column in self.config.columns or {}:
            if column not in known:
                raise ConfigError(
                    f"content: items of {name} have no attribute {column!r}{nearest(column, known)}; there are: "
                    f"{', '.join(known)}"
                )
        return blocks

    def _source(self, blocks: list[Block], columns: Mapping[str, float], half_life: float) -> ContentSource:
        terms, values, num_terms = combined(blocks, {block.column: columns.get(block.column, 0.0) for block in blocks})
        return ContentSource(
            self.name, terms, values, num_terms, window=self.config.window, half_life=half_life or None
        )

    def _choose(self, blocks: list[Block], data: Dataset, options: FitOptions) -> tuple[dict[str, float], float]:
        """The half-life with all columns alike, then the weight of one column after the other; what is given stays."""
        config, judges = self.config, Judges(data, options.metric)
        columns = config.columns or {block.column: 1.0 for block in blocks}
        half_life = config.half_life
        if half_life is None:
            half_life = judges.half_life(lambda life: self._source(blocks, columns, life))
        if config.columns is None and len(blocks) > 1:
            for block in blocks:
                tried = [{**columns, block.column: weight} for weight in _WEIGHTS]
                tried = [one for one in tried if any(one.values())]
                columns = judges.best(tried, lambda one: self._source(blocks, one, half_life))
        if config.columns is None or config.half_life is None:
            weights = " ".join(f"{column}={weight:g}" for column, weight in columns.items())
            say(f"{self.name} (defaults {DEFAULTS_VERSION}): columns {weights} half_life={half_life:g}")
        return columns, half_life
