"""Typed configuration: one keyword-only struct per component, from defaults, a TOML file and `key=value` overrides."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from leanrec.core.errors import ConfigError
from leanrec.core.registry import nearest
from leanrec.core.space import Dimension

__all__ = ["Config", "build", "load_toml", "parse_overrides", "to_dict", "to_toml"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every component's configuration; a subclass says `frozen=True, kw_only=True` again.

    A hyperparameter is written once, here in its component's subclass, with its default and a docstring line.
    A field that is None by default is chosen from the data by the component's versioned rule.
    """

    space: ClassVar[Mapping[str, Dimension]] = {}
    """What a search tries, by field; a field that is not there keeps its default."""


C = TypeVar("C", bound=Config)


def to_dict(config: Config) -> dict[str, Any]:
    """Plain builtins, ready for JSON or TOML."""
    result: dict[str, Any] = msgspec.to_builtins(config)
    return result


def build(kind: type[C], values: Mapping[str, Any], *, where: str = "configuration") -> C:
    """A `kind` from plain values; an unknown key or a wrong type is a ConfigError that names it and the nearest key."""
    known = _keys(kind)
    for key in values:
        if key not in known:
            raise ConfigError(
                f"{where}: unknown key {key!r}{nearest(key, sorted(known))}; keys are: {', '.join(sorted(known))}"
            )
    try:
        return msgspec.convert(dict(values), kind, strict=False)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


@cache
def _keys(kind: type[Config]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


def to_toml(values: Mapping[str, Any]) -> str:
    """Plain builtins as TOML that `load_toml` reads back; what is None is left out."""
    return "".join(f"{_toml_key(key)} = {_toml(value)}\n" for key, value in values.items() if value is not None)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        pairs = [f"{_toml_key(key)} = {_toml(part)}" for key, part in value.items() if part is not None]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)


def load_toml(path: str | Path) -> dict[str, Any]:
    """The table in a TOML file, or a ConfigError naming the file and the line."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise ConfigError(f"configuration file {path} does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is not valid TOML: {error}") from error


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """`["dim=128", "dropout=0.2"]` to values; each right-hand side is read as TOML, else taken as a string."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {pair!r} is not of the form key=value")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text
    return values
