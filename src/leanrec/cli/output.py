"""Results on standard output: for a person, or as the one JSON object that `--json` promises."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["emit"]


def emit(text: str, data: Mapping[str, Any], as_json: bool) -> int:
    """Print the result of a verb, and return its exit code 0."""
    if as_json:
        print(msgspec.json.encode(data, enc_hook=_plain).decode())
    elif text:
        print(text)
    sys.stdout.flush()
    return 0


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays, paths: as JSON knows them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
