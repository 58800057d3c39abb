"""One text for each item, from whatever columns say what it is."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

from leanrec.core.errors import ConfigError, InputError
from leanrec.core.registry import nearest
from leanrec.features.items import TITLE_COLUMNS

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TEXT_COLUMNS", "item_texts"]

TEXT_COLUMNS = (
    *TITLE_COLUMNS, "brand", "author", "authors", "category", "categories", "genre", "genres", "tags", "year",
    "description",
)  # fmt: skip
"""What goes into an item's text where the table has it, in this order."""


def item_texts(attributes: pl.DataFrame, template: str | None = None) -> list[str]:
    """N texts, one a row; "" where nothing is known of an item.

    template: text with columns in braces, for instance "{title}, a book by {authors}"; None takes the columns of
    `TEXT_COLUMNS` that there are, with full stops between. Lists are written with commas; what is missing is left out.
    ConfigError for a template that names no column or one that the table lacks; InputError when there is none to take.
    """
    if template is None:
        columns = [name for name in TEXT_COLUMNS if name in attributes.columns]
        if not columns:
            raise InputError(
                f"the items have no text: none of their columns ({', '.join(attributes.columns)}) is one of "
                f"{', '.join(TEXT_COLUMNS)}; name some, for instance --set template='{{...}}'"
            )
        rows = zip(*(_texts(attributes[name]) for name in columns), strict=True)
        return [". ".join(part for part in row if part) for row in rows]
    columns = _named(template, attributes.columns)
    rows = zip(*(_texts(attributes[name]) for name in columns), strict=True)
    return [template.format(**dict(zip(columns, row, strict=True))).strip() for row in rows]


def _named(template: str, known: Sequence[str]) -> list[str]:
    """The columns in a template's braces."""
    try:
        columns = list(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(template) if name is not None))
    except ValueError as error:
        raise ConfigError(f"template {template!r} cannot be read ({error}): write columns in braces") from error
    if not columns:
        raise ConfigError(f"template {template!r} names no column: write columns in braces, like {{title}}")
    for name in columns:
        if name not in known:
            raise ConfigError(
                f"template {template!r}: the items have no column {name!r}{nearest(name, list(known))}; "
                f"there are: {', '.join(known)}"
            )
    return columns


def _texts(series: pl.Series) -> list[str]:
    import polars as pl

    if isinstance(series.dtype, pl.List | pl.Array):
        series = series.cast(pl.List(pl.String), strict=False).list.drop_nulls().list.join(", ")
    return [text.strip() for text in series.cast(pl.String, strict=False).fill_null("").to_list()]
