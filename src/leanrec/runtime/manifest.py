"""The manifest of a bundle: what is in it, what it hashes to, and how it was made. Plain JSON."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from leanrec.core.errors import BundleError

__all__ = ["CHUNK", "FORMAT", "MANIFEST", "FileEntry", "Manifest", "encode_manifest", "hash_chunks", "parse_manifest"]

FORMAT = 1
MANIFEST = "manifest.json"
CHUNK = 4 << 20
_NAME = re.compile(r"[a-z0-9_-][a-z0-9_.-]{0,99}\.safetensors|items\.parquet")
_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_FILES = 1000
_MAX_PARTS = 100_000  # what JSON becomes in memory, and the time for it, goes by these


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file's size in bytes and the SHA-256 of each 4 MiB of it."""

    size: int
    chunks: list[str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """id: SHA-256 over format, recommender and files: what the recommender is. seal: over everything but itself."""

    format: int
    id: str
    seal: str
    recommender: dict[str, Any]
    files: dict[str, FileEntry]
    lineage: dict[str, Any]
    card: dict[str, Any]
    certificate: dict[str, Any] | None


def hash_chunks(content: bytes | memoryview) -> list[str]:
    """SHA-256 of each 4 MiB."""
    view = memoryview(content)
    return [hashlib.sha256(view[at : at + CHUNK]).hexdigest() for at in range(0, len(view), CHUNK)]


def encode_manifest(
    recommender: Mapping[str, Any],
    files: Mapping[str, FileEntry],
    *,
    lineage: Mapping[str, Any],
    card: Mapping[str, Any],
    certificate: Mapping[str, Any] | None,
) -> tuple[str, bytes]:
    """The id, and the bytes of manifest.json."""
    body: dict[str, Any] = msgspec.to_builtins(
        {
            "format": FORMAT,
            "recommender": dict(recommender),
            "files": dict(files),
            "lineage": dict(lineage),
            "card": dict(card),
            "certificate": None if certificate is None else dict(certificate),
        }
    )
    body["id"] = _identity(body)
    body["seal"] = _seal(body)
    return body["id"], json.dumps(body, indent=1, sort_keys=True, allow_nan=False).encode()


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """The checked manifest; a BundleError says what is wrong with it."""
    try:
        if raw.count(b"[") + raw.count(b"{") > _MAX_PARTS:
            raise ValueError(f"more than {_MAX_PARTS:,} lists and objects")
        body = json.loads(
            raw.decode(), object_pairs_hook=_distinct, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: {MANIFEST} is not valid JSON ({_short(error)}): copy the bundle again") from error
    version = body.get("format") if isinstance(body, dict) else None
    if version != FORMAT:
        said = _short(version) if isinstance(version, int | str | None) else f"that is a {type(version).__name__}"
        raise BundleError(
            f"{where} is a bundle of format {said}, this leanrec reads format {FORMAT}: "
            "use the leanrec that wrote it, or write it again"
        )
    try:
        manifest = msgspec.convert(body, Manifest)
        _check_files(manifest.files)
        if manifest.seal != _seal(body) or manifest.id != _identity(body):
            raise ValueError("it was edited after it was written")
    except (ValueError, RecursionError, OverflowError) as error:
        raise BundleError(f"{where}: {MANIFEST} is refused ({_short(error)}): copy the bundle again") from error
    return manifest


def _check_files(files: Mapping[str, FileEntry]) -> None:
    if len(files) > _MAX_FILES:
        raise ValueError(f"more than {_MAX_FILES} files")
    for name, entry in files.items():
        if not _NAME.fullmatch(name) or ".." in name:
            raise ValueError(f"impossible file name {name[:100]!r}")
        if entry.size < 0 or len(entry.chunks) != -(-entry.size // CHUNK):
            raise ValueError(f"the chunks of {name} do not add up to its size")
        if not all(_HASH.fullmatch(chunk) for chunk in entry.chunks):
            raise ValueError(f"a chunk of {name} has no SHA-256")


def _identity(body: Mapping[str, Any]) -> str:
    return _digest({key: body[key] for key in ("format", "recommender", "files")})


def _seal(body: Mapping[str, Any]) -> str:
    return _digest({key: value for key, value in body.items() if key != "seal"})


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{_short(text)} is too large a number")
    return number


def _short(value: object) -> str:
    text = str(value).replace("\n", " ")
    return text if len(text) <= 150 else text[:150] + "..."
