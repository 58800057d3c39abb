"""Options that several verbs share, and how their text is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from leanrec.core.errors import InputError

__all__ = ["Cuts", "DataFolder", "Flag", "Json", "Seconds", "Settings", "Texts"]

_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def _seconds(_: type, tokens: Sequence[Token]) -> float:
    text = tokens[0].value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h)?\s*", text)
    if not found or float(found[1]) <= 0:
        raise InputError(f"--time {text!r} is not a duration: write for instance 90s, 30min or 2h")
    return float(found[1]) * _UNITS[found[2] or ""]


def _texts(_: type, tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(part.strip() for token in tokens for part in token.value.split(",") if part.strip())


def _cuts(kind: type, tokens: Sequence[Token]) -> tuple[int, ...]:
    parts = _texts(kind, tokens)
    if not parts or not all(part.isdigit() and int(part) > 0 for part in parts):
        text = ",".join(token.value for token in tokens)
        raise InputError(f"--k {text!r} is not a list of whole numbers above 0: write for instance 5,10,20")
    return tuple(sorted({int(part) for part in parts}))


Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
Json = Annotated[
    Flag, Parameter(help="End standard output with one line that is a JSON object; messages go to standard error.")
]
Seconds = Annotated[float | None, Parameter(converter=_seconds, n_tokens=1, metavar="DURATION")]
Texts = Annotated[
    tuple[str, ...], Parameter(converter=_texts, n_tokens=1, negative=(), metavar="A,B,...", show_default=False)
]
Cuts = Annotated[
    tuple[int, ...],
    Parameter(
        converter=_cuts, n_tokens=1, negative=(), metavar="K,K,...", show_default=lambda ks: ",".join(map(str, ks))
    ),
]
Settings = Annotated[
    tuple[str, ...], Parameter(name="--set", n_tokens=1, negative=(), metavar="KEY=VALUE", show_default=False)
]
DataFolder = Annotated[Path, Parameter(help="A folder written by `leanrec prepare`.")]
