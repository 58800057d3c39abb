"""Configuration as text: what is written is read back; the space of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.config import load_toml, to_toml
from leanrec.core.errors import ConfigError
from leanrec.core.space import Choice, Range, parse_dimension

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_PLAIN = st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), _TEXT)
_VALUES = st.recursive(_PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toml") / "c.toml"


@given(values=st.dictionaries(_TEXT, _VALUES, max_size=4))
def test_settings_written_as_toml_are_read_back(file: Path, values: dict[str, Any]) -> None:
    file.write_text(to_toml(values), encoding="utf-8", newline="")
    assert load_toml(file) == values


def test_what_is_none_is_left_out() -> None:
    assert to_toml({"a": None, "b": {"c": None, "d": 1}}) == "b = {d = 1}\n"


@pytest.mark.parametrize(
    ("text", "key", "dimension"),
    [
        ("lr=1e-4..1e-2", "lr", Range(1e-4, 1e-2, log=True)),
        ("dropout=0..0.5", "dropout", Range(0, 0.5)),
        ("layers=1..4", "layers", Range(1, 4)),
        ("dim=64,128", "dim", Choice((64, 128))),
        ("objective=softmax, bpr", "objective", Choice(("softmax", "bpr"))),
    ],
)
def test_a_dimension_as_text(text: str, key: str, dimension: Range | Choice) -> None:
    assert parse_dimension(text) == (key, dimension)


@pytest.mark.parametrize("text", ["lr", "lr=", "=1..2", "lr=2..1", "lr=a..b", "lr=1..2..3"])
def test_a_dimension_that_says_nothing(text: str) -> None:
    with pytest.raises(ConfigError, match=r"lr=1e-4\.\.1e-2"):
        parse_dimension(text)
