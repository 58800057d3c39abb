"""Filters and titles of items."""

import subprocess
import sys

import polars as pl
import pytest

from leanrec.core.errors import BundleError, InputError
from leanrec.features.items import ItemAttributes

FRAME = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "title": ["Alpha", None, "Gamma"],
        "genres": [["x", "y"], None, ["y"]],
        "year": [1999.0, None, 2001.0],
        "colour": pl.Series(["red", "blue", "red"], dtype=pl.Categorical),
    }
)


@pytest.fixture(params=["frame", "path", "bytes"])
def attributes(request, tmp_path):
    if request.param == "frame":
        return ItemAttributes.from_frame(FRAME)
    path = tmp_path / "items.parquet"
    path.write_bytes(ItemAttributes.from_frame(FRAME).parquet())
    if request.param == "path":
        return ItemAttributes.from_parquet(path, 3)
    import mmap

    with open(path, "rb") as file:
        return ItemAttributes.from_parquet(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), 3)


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        ({}, [True, True, True]),
        ({"genres": ["x"]}, [True, False, False]),
        ({"genres": ["x", "y"]}, [True, False, True]),
        ({"genres": ["y"], "year": ["2001"]}, [False, False, True]),
        ({"year": "1999"}, [True, False, False]),
        ({"item_id": ["b"]}, [False, True, False]),
        ({"colour": ["red"]}, [True, False, True]),
        ({"colour": []}, [False, False, False]),
        ({"colour": ["green"]}, [False, False, False]),
    ],
)
def test_filters(attributes, wanted, allowed):
    assert attributes.allowed(wanted).tolist() == allowed
    assert attributes.allowed(wanted).tolist() == allowed


def test_titles(attributes):
    assert [attributes.title(row) for row in (0, 1, 2, 9, -1)] == ["Alpha", None, "Gamma", None, None]


def test_items_without_a_title_column():
    assert ItemAttributes.from_frame(FRAME.drop("title")).title(0) is None


def test_an_unknown_column_is_named(attributes):
    with pytest.raises(InputError, match=r"'genre' \(did you mean 'genres'\?\); columns: item_id, title"):
        attributes.allowed({"genre": ["x"]})


def test_a_broken_or_edited_table(tmp_path):
    path = tmp_path / "items.parquet"
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(BundleError, match=r"items.parquet cannot be read"):
        ItemAttributes.from_parquet(path).title(0)
    FRAME.write_parquet(path)
    with pytest.raises(BundleError, match="3 rows for 4 items"):
        ItemAttributes.from_parquet(path, 4).title(0)


def test_polars_is_not_loaded_before_it_is_needed():
    code = (
        "import sys; from leanrec.features.items import ItemAttributes; "
        "ItemAttributes.from_parquet('items.parquet', 3); sys.exit('polars' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
