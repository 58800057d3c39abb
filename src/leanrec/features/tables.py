"""Users and items as features, transformed once: rows of a request become a FeatureBatch without reading any frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.features.base import Encoded
from leanrec.features.batch import FeatureBatch
from leanrec.features.space import SIDES, FeatureSpace, SideName

if TYPE_CHECKING:
    from leanrec.data.examples.base import Examples

__all__ = ["FeatureTables"]


class FeatureTables:
    """A feature space with every user's and every item's own fields; what a scorer keeps in the bundle.

    users, items: a row each, and a last one for who is not known. A space without users (or items) has only that row.
    unsaid: one row, the fields of a context of which a request says nothing. item_codes: (N,) for histories.
    """

    def __init__(
        self, space: FeatureSpace, users: Encoded, items: Encoded, unsaid: Encoded, item_codes: npt.NDArray[np.int32]
    ) -> None:
        self.space, self.users, self.items, self.unsaid, self.item_codes = space, users, items, unsaid, item_codes

    @property
    def num_users(self) -> int:
        return len(self.users) - 1

    @property
    def num_items(self) -> int:
        return len(self.items) - 1

    @classmethod
    def build(cls, space: FeatureSpace, examples: Examples) -> Self:
        """The fields of all users and items that `examples` know by rows."""
        users, items = _table(space, examples, "user"), _table(space, examples, "item")
        codes = space.item_codes(np.arange(len(items) - 1)) if space.history else np.empty(0, np.int32)
        return cls(space, users, items, _unknown(space, "context"), codes)

    def grown(self, examples: Examples, num_users: int, num_items: int) -> Self:
        """With rows for the users and items of `examples` that come after those known here."""
        sides: tuple[tuple[SideName, Encoded, int], ...] = (
            ("user", self.users, num_users), ("item", self.items, num_items),
        )  # fmt: skip
        tables = {}
        for side, old, total in sides:
            frame = examples.entities(side)
            assert frame is not None, "they are known by rows"
            rows = frame[f"{side}_id"].to_numpy()
            tables[side] = _grown(old, self.space.encode(frame, (side,)), rows, total)
        codes = self.space.item_codes(np.arange(num_items)) if self.space.history else self.item_codes
        return type(self)(self.space, tables["user"], tables["item"], self.unsaid, codes)

    def pairs(self, queries: Queries, items: Jagged) -> FeatureBatch:
        """(T rows) the features of each listed item for its query: row i of `items` is asked of query i.

        An unknown user, and a query without context, count as missing columns do.
        """
        query_T = items.row_of()
        users_T = np.full(len(query_T), -1) if queries.users is None else queries.users[query_T]
        parts = [
            self.users.take(users_T),
            self.items.take(items.values),
            self._context(queries).take(query_T),
        ]
        history = self.history(queries)
        return self.space.join(Encoded.beside(parts, len(query_T)), None if history is None else history.take(query_T))

    def history(self, queries: Queries) -> Jagged | None:
        """(B) the newest items of each history, as codes; None for a space without history."""
        if not self.space.history:
            return None
        newest = queries.histories.last(self.space.history)
        return Jagged(self.item_codes[newest.values], newest.offsets)

    def _context(self, queries: Queries) -> Encoded:
        """(B rows) the context's fields; Polars is asked only for what a request says and the space reads."""
        read = {feature.column for feature in self.space.features["context"]}
        said = {column: values for column, values in (queries.context or {}).items() if column in read}
        if not said:
            return self.unsaid.take(np.zeros(len(queries), np.int64))
        from leanrec.features.series import Column

        columns = {column: Column.of_values(values) for column, values in said.items()}
        return self.space.encode_columns(columns, len(queries), ("context",))

    def config(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return self.space.config()

    def parts(self) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """Arrays for the bundle, by file stem."""
        return {
            "features": self.space.tensors() | {"item_codes": self.item_codes},
            "user_features": _arrays(self.users),
            "item_features": _arrays(self.items),
            "context_features": _arrays(self.unsaid),
        }

    @classmethod
    def load(cls, config: Mapping[str, Any], parts: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> Self:
        """The tables as they were stored; BundleError when they are not of this space."""
        try:
            space = FeatureSpace.load(config, parts["features"])
            users, items, unsaid = (_stored(space, side, parts[f"{side}_features"]) for side in SIDES)
            codes = parts["features"]["item_codes"]
            if space.history:
                size = space.layout.size_of("item_id")
                if codes.shape != (len(items) - 1,) or (len(codes) and not 0 <= codes.min() <= codes.max() < size):
                    raise ValueError("the codes of items are out of range")
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(f"the features of the bundle are broken ({error}): make it again") from error
        return cls(space, users, items, unsaid, codes)


def _table(space: FeatureSpace, examples: Examples, side: SideName) -> Encoded:
    """One row for each entity of a side, and one for who is not known."""
    frame, unknown = examples.entities(side), _unknown(space, side)
    if frame is None:
        return unknown
    return _below(space.encode(frame, (side,)), unknown)


def _below(above: Encoded, below: Encoded) -> Encoded:
    """The rows of both."""
    lists = tuple(
        Jagged(np.concatenate([a.values, b.values]), np.concatenate([a.offsets, a.offsets[-1] + b.offsets[1:]]))
        for a, b in zip(above.lists, below.lists, strict=True)
    )
    return Encoded(
        np.concatenate([above.numbers_BF, below.numbers_BF]),
        np.concatenate([above.categories_BF, below.categories_BF]),
        lists,
        np.concatenate([above.moments_BM, below.moments_BM]),
    )


def _grown(old: Encoded, fresh: Encoded, rows: npt.NDArray[np.int32], total: int) -> Encoded:
    """Old rows as they are, fresh ones at their place where that is new, the unknown one last."""
    known = len(old) - 1
    place = np.full(total + 1, known)
    place[:known] = np.arange(known)
    new = np.flatnonzero(rows >= known)
    place[rows[new]] = len(old) + new
    return _below(old, fresh).take(place)


def _unknown(space: FeatureSpace, side: SideName) -> Encoded:
    """(1 row) the fields of a side of which nothing is known."""
    import polars as pl

    return space.encode(pl.DataFrame({"": [None]}), (side,))


def _arrays(table: Encoded) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "numbers": table.numbers_BF,
        "categories": table.categories_BF,
        "moments": np.ascontiguousarray(table.moments_BM).view(np.int64),  # NaN is meant here, and a bundle has none
    }
    for place, one in enumerate(table.lists):
        arrays[f"list.{place}.values"], arrays[f"list.{place}.offsets"] = one.values, one.offsets
    return arrays


def _stored(space: FeatureSpace, side: SideName, arrays: Mapping[str, npt.NDArray[Any]]) -> Encoded:
    """ValueError unless the arrays are fields of that side of the space."""
    features = space.features[side]
    numbers, categories, moments = arrays["numbers"], arrays["categories"], arrays["moments"].view(np.float64)
    sizes = np.array([size for f in features for _, size in f.categories], np.int64)
    list_sizes = [size for f in features for _, size in f.lists]
    widths = (sum(len(f.numbers) for f in features), len(sizes), sum(f.moments for f in features))
    given = [(a.dtype.str, a.ndim, a.shape[-1]) for a in (numbers, categories, moments)]
    if given != [("<f4", 2, widths[0]), ("<i4", 2, widths[1]), ("<f8", 2, widths[2])]:
        raise ValueError(f"the fields of {side}s are others")
    if not (len(numbers) == len(categories) == len(moments) >= 1):
        raise ValueError(f"the fields of {side}s are of different lengths")
    if categories.size and not ((categories >= 0) & (categories < sizes)).all():
        raise ValueError(f"a code of {side}s is out of range")
    lists = []
    for place, size in enumerate(list_sizes):
        values, offsets = arrays[f"list.{place}.values"], arrays[f"list.{place}.offsets"]
        if offsets.dtype != np.int64 or offsets.shape != (len(numbers) + 1,) or (np.diff(offsets) < 0).any():
            raise ValueError(f"a list of {side}s is broken")
        if offsets[0] or offsets[-1] != len(values) or values.dtype != np.int32:
            raise ValueError(f"a list of {side}s is broken")
        if len(values) and not 0 < values.min() <= values.max() < size:
            raise ValueError(f"a code in a list of {side}s is out of range")
        lists.append(Jagged(values, offsets))
    return Encoded(numbers, categories, tuple(lists), moments)
