"""The feature space: raw columns to a FeatureBatch, learnt on the training part and applied alike ever after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec
import numpy as np
import numpy.typing as npt

from leanrec.core.config import Config, build
from leanrec.core.console import say
from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.registry import nearest
from leanrec.features import KINDS
from leanrec.features.base import Encoded, Feature, Learner
from leanrec.features.batch import LONGEST_HISTORY, FeatureBatch, Layout
from leanrec.features.category import Category
from leanrec.features.derived import Ages, Cross, learn_ages
from leanrec.features.selection import mutual_information

if TYPE_CHECKING:
    import polars as pl

    from leanrec.data.examples.base import Examples
    from leanrec.features.series import Column

__all__ = ["SIDES", "FeatureConfig", "FeatureSpace", "SideName"]

SideName = Literal["user", "item", "context"]
SIDES: tuple[SideName, ...] = ("user", "item", "context")
"""Fields stand in this order, then ages, then crosses."""

_HISTORY, _ITEM = "history", "item_id"
_LEFT_OUT = ("ignore", "history")
_ROWS, _SEEN = 1 << 16, 50_000

Settings = dict[str, Any]


class FeatureConfig(Config, frozen=True, kw_only=True):
    """Which columns become which features."""

    columns: dict[str, str | Settings] = msgspec.field(default_factory=dict)
    """Column -> its kind, or a table of `kind` and settings; others are guessed. `ignore` leaves one out."""
    kinds: dict[str, Settings] = msgspec.field(default_factory=dict)
    """Kind -> settings for every column of that kind which has none of its own."""
    crosses: tuple[tuple[str, str], ...] = ()
    """Pairs of category fields (buckets and hours are such too) whose combinations become fields of their own."""
    cross_size: int = 1 << 16
    """Codes of a crossed field at most; with more combinations they are hashed."""
    history: int = 50
    """Items of the history that are kept, the newest; 0 leaves it out."""
    keep: int = 0
    """Only so many columns of numbers and categories, those that alone say most of the main label (mutual information
    on training rows); 0 keeps all."""

    def __post_init__(self) -> None:
        if not 0 <= self.history <= LONGEST_HISTORY:
            raise ValueError(f"history must be between 0 and {LONGEST_HISTORY}, not {self.history}")
        if self.keep < 0 or not 2 <= self.cross_size < 1 << 31:
            raise ValueError("keep must not be negative, and cross_size must be at least 2")


class FeatureSpace:
    """`fit` on examples, then `transform` any frame of raw columns; `config` and `tensors` are what `load` needs.

    What it makes of the unforeseen, in training and serving alike, and never an error: a category that training hardly
    or never showed is code 0, and so is a missing one. A missing number (as NaN and infinity are) is the mean, with an
    indicator where training had such. A column that a frame lacks is missing in every row. A value of a type that its
    kind cannot read is missing; text that spells a number is that number.
    """

    def __init__(
        self, features: Mapping[SideName, Sequence[Feature]], *, ages: Ages, crosses: Sequence[Cross], history: int
    ) -> None:
        self.features = {side: tuple(features.get(side, ())) for side in SIDES}
        self.ages, self.crosses = ages, tuple(crosses)
        every = [feature for side in SIDES for feature in self.features[side]]
        self._items = next((f for f in every if f.column == _ITEM and isinstance(f, Category)), None)
        self.history = history if self._items is not None else 0
        categories = [field for feature in every for field in feature.categories]
        categories += [(cross.name, cross.size) for cross in self.crosses]
        lists = [field for feature in every for field in feature.lists]
        self.layout = Layout(
            numbers=(*(name for feature in every for name in feature.numbers), *ages.names),
            categories=tuple(name for name, _ in categories),
            sizes=tuple(size for _, size in categories),
            lists=tuple(name for name, _ in lists),
            list_sizes=tuple(size for _, size in lists),
            history=_ITEM if self.history else None,
        )

    @classmethod
    def fit(cls, examples: Examples, config: FeatureConfig | None = None) -> Self:
        """Learn from the training part in one streaming pass, in memory that does not grow with the rows."""
        config = config or FeatureConfig()
        kinds = _choose(examples, config)
        learners = {column: _learner(column, kind, config) for column, kind in kinds.items() if kind not in _LEFT_OUT}
        _learn(learners, examples)
        features: dict[SideName, list[Feature]] = {side: [] for side in SIDES}
        for column, learner in learners.items():
            features[examples.sides[column]].append(learner.finish())
        history = config.history if kinds.get(_HISTORY) == "history" else 0
        sample = examples.sample("train", _SEEN)
        plain: FeatureSpace = cls(features, ages=Ages(()), crosses=(), history=history)
        if config.keep:
            plain = _most_telling(plain, sample, examples.label, config.keep)
            features = {side: list(some) for side, some in plain.features.items()}
        ages = learn_ages(plain.features, plain.encode(sample))
        crosses = [Cross.of(plain.layout, pair, config.cross_size) for pair in config.crosses]
        return cls(features, ages=ages, crosses=crosses, history=history)

    @property
    def columns(self) -> list[str]:
        """The raw columns it reads."""
        return [f.column for side in SIDES for f in self.features[side]] + ([_HISTORY] if self.history else [])

    def transform(self, frame: pl.DataFrame) -> FeatureBatch:
        """(B rows) of a frame."""
        from leanrec.features.series import Column

        history = None
        if self.history:
            lists = Column(frame[_HISTORY]).rows() if _HISTORY in frame.columns else Jagged.empty(len(frame))
            items = lists.last(self.history)
            history = Jagged(self.item_codes(items.values), items.offsets)
        return self.join(self.encode(frame), history)

    def encode(self, frame: pl.DataFrame, sides: Sequence[SideName] = SIDES) -> Encoded:
        """(B rows) the fields of some sides, one after the other."""
        from leanrec.features.series import Column

        return self.encode_columns({name: Column(frame[name]) for name in frame.columns}, len(frame), sides)

    def encode_columns(self, columns: Mapping[str, Column], count: int, sides: Sequence[SideName] = SIDES) -> Encoded:
        """`encode` for `count` rows of columns."""
        from leanrec.features.series import Column

        features = [feature for side in sides for feature in self.features[side]]
        parts = [f.encode(columns[f.column] if f.column in columns else Column.absent(count)) for f in features]
        return Encoded.beside(parts, count)

    def join(self, encoded: Encoded, history: Jagged | None) -> FeatureBatch:
        """The fields of all three sides, with ages and crosses. history: (B) rows of item codes."""
        numbers_BF = np.concatenate([encoded.numbers_BF, self.ages.of(encoded.moments_BM)], axis=1)
        crossed = [cross.of_codes(encoded.categories_BF)[:, None] for cross in self.crosses]
        categories_BF = np.concatenate([encoded.categories_BF, *crossed], axis=1)
        return FeatureBatch(self.layout, numbers_BF, categories_BF, encoded.lists, history)

    def item_codes(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
        """(T,) the codes of item rows, as the history has them; 0 for -1."""
        import polars as pl

        from leanrec.features.series import Column

        assert self._items is not None
        return self._items.encode(Column(pl.Series(rows).cast(pl.Int64))).categories_BF[:, 0]

    def config(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        features = [
            {"side": side, "kind": feature.kind, "column": feature.column, **feature.config()}
            for side in SIDES
            for feature in self.features[side]
        ]
        crosses = [cross.config() for cross in self.crosses]
        return {"features": features, "ages": self.ages.config(), "crosses": crosses, "history": self.history}

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the bundle."""
        every = [feature for side in SIDES for feature in self.features[side]]
        return {f"{place}.{name}": a for place, feature in enumerate(every) for name, a in feature.tensors().items()}

    @classmethod
    def load(cls, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The space as it was stored; BundleError when it cannot be."""
        features: dict[SideName, list[Feature]] = {side: [] for side in SIDES}
        try:
            for place, one in enumerate(config["features"]):
                own = {k.partition(".")[2]: a for k, a in tensors.items() if k.startswith(f"{place}.")}
                features[one["side"]].append(KINDS[one["kind"]].load(str(one["column"]), one, own))
            ages = Ages.load(config["ages"], features)
            crosses = [Cross.load(values) for values in config["crosses"]]
            history = config["history"]
            if type(history) is not int or not 0 <= history <= LONGEST_HISTORY:
                raise ValueError(f"histories of {str(history)[:20]} items")
            made = cls(features, ages=ages, crosses=crosses, history=history)
            for cross in made.crosses:
                cross.check(made.layout)
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise BundleError(f"the features of the bundle are broken ({error}): make it again") from error
        return made


def _most_telling(space: FeatureSpace, sample: pl.DataFrame, label: str, keep: int) -> FeatureSpace:
    """The space of the columns that say most of the label; those whose fields cannot be judged alone all stay."""
    told = {one.field: one.importance for one in mutual_information(space.transform(sample), sample[label].to_numpy())}
    every = [feature for side in SIDES for feature in space.features[side]]
    fields = {f.column: [told[name] for name in (*f.numbers, *(n for n, _ in f.categories))] for f in every}
    judged = [column for column, importances in fields.items() if importances]
    kept = sorted(judged, key=lambda column: -max(fields[column]))[:keep]
    out = [column for column in judged if column not in kept and not (column == _ITEM and space.history)]
    if out:
        say(f"features: {', '.join(out)} are left out, they alone say the least of {label!r} (keep={keep})")
    features = {side: [f for f in some if f.column not in out] for side, some in space.features.items()}
    return FeatureSpace(features, ages=space.ages, crosses=(), history=space.history)


def _choose(examples: Examples, config: FeatureConfig) -> dict[str, str]:
    """The kind of each column: as told, else as the log's format says, else guessed; said where it is left out."""
    from leanrec.data.columns import guess_kind

    for column in config.columns:
        if column not in examples.columns:
            raise ConfigError(
                f"features: {examples.name} has no column {column!r}{nearest(column, list(examples.columns))}; it has: "
                f"{', '.join(examples.columns)}"
            )
    sample = examples.sample("train", _SEEN)
    chosen = {}
    for column in examples.columns:
        told = config.columns.get(column)
        kind = told if isinstance(told, str) else (told or {}).get("kind")
        why = ""
        if kind is None:
            kind, why = guess_kind(sample, column, examples.sides[column], examples.labels)
            kind = examples.kinds.get(column, kind) if kind != "ignore" else kind
        if kind not in _LEFT_OUT and kind not in KINDS:
            known = ", ".join([*KINDS, *_LEFT_OUT])
            raise ConfigError(
                f"features: {kind!r} is no kind of feature{nearest(kind, [*KINDS, *_LEFT_OUT])}; there are: {known}"
            )
        if kind == "ignore" and why:
            say(f"features: {column} is left out ({why}); features.columns.{column} names a kind for it")
        chosen[column] = kind
    return chosen


def _learner(column: str, kind: str, config: FeatureConfig) -> Learner:
    told = config.columns.get(column)
    settings = {key: value for key, value in told.items() if key != "kind"} if isinstance(told, dict) else {}
    feature = KINDS[kind]
    made = build(feature.Config, {**config.kinds.get(kind, {}), **settings}, where=f"features of {column}")
    return feature.learner(column, made)


def _learn(learners: Mapping[str, Learner], examples: Examples) -> None:
    from leanrec.features.series import Column

    for batch in examples.batches("train", _ROWS, list(learners)):
        for column, learner in learners.items():
            learner.add(Column(batch[column]))
