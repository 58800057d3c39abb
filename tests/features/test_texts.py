"""One text for each item."""

from __future__ import annotations

import polars as pl
import pytest

from leanrec.core.errors import ConfigError, InputError
from leanrec.features.texts import item_texts

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "genres": [["Drama", None, "War"], [], None],
        "title": ["Heat ", "Up", None],
        "year": [1995, 2009, None],
        "price": [1.0, 2.0, 3.0],
    }
)


def test_known_columns_in_the_usual_order():
    assert item_texts(ITEMS) == ["Heat. Drama, War. 1995", "Up. 2009", ""]


def test_a_template_names_its_columns():
    assert item_texts(ITEMS, "{title} ({year}), {title}") == ["Heat (1995), Heat", "Up (2009), Up", "(),"]


@pytest.mark.parametrize(
    ("template", "said"),
    [("{titel}", "did you mean 'title'"), ("no column", "names no column"), ("{title", "cannot be read")],
)
def test_a_template_that_cannot_be(template, said):
    with pytest.raises(ConfigError, match=said):
        item_texts(ITEMS, template)


def test_items_without_text():
    with pytest.raises(InputError, match="template"):
        item_texts(ITEMS.select("item_id", "price"))
