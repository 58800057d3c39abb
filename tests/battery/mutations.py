"""Changes to real bundles: of bytes, as a bad disk or a careless hand makes them, and of meaning, sealed again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from leanrec.runtime.manifest import MANIFEST

from .forge import Files, arrays_of, packed, raw_safetensors, sealed

__all__ = ["damage", "forgery"]

Rng = np.random.Generator
_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 7, 1 << 16, 1 << 31, 1 << 33, 1 << 63, 10**30, -(10**30), 0.5, -0.5, 1e308, 1e-308,
    "", "x", "../x", "exact", "popular", [], {}, [0], {"kind": "popular", "name": "x", "config": {}}, [[[]]],
)  # fmt: skip
_NUMBERS = (-1, 0, 1, 127, -128, 255, 40, 1000, 2**31 - 1, -(2**31), 2**40, 2**62)
_TYPES = ("<i1", "<u1", "<i2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "|b1")


def damage(files: Files, other: Files, rng: Rng) -> Files:
    """A file cut, grown, flipped, zeroed, swapped or taken from another bundle; the manifest says what it said."""
    found = dict(files)
    name = str(rng.choice(sorted(files)))
    raw = bytearray(files[name])
    at, width = int(rng.integers(0, len(raw))), int(rng.integers(1, 64))
    match int(rng.integers(0, 11)):
        case 0 | 1:
            raw[at] ^= 1 << int(rng.integers(0, 8))
        case 2:
            del raw[at : at + width]
        case 3:
            raw[at:at] = rng.bytes(width)
        case 4:
            del raw[at:]
        case 5:
            raw[at : at + width] = bytes(len(raw[at : at + width]))
        case 6:
            raw[at : at + width] = rng.bytes(len(raw[at : at + width]))
        case 7:
            raw = bytearray(other.get(name, b"\x80\x04K\x01."))
        case 8:
            twin = str(rng.choice(sorted(files)))
            found[twin], raw = bytes(raw), bytearray(files[twin])
        case 9 if name == MANIFEST or rng.random() < 0.8:
            body = json.loads(files[MANIFEST])
            _change(body, rng)
            found[MANIFEST], raw = json.dumps(body).encode(), bytearray(found[name])
            if name == MANIFEST:
                raw = bytearray(found[MANIFEST])
        case _:
            found.pop(name)
            found[str(rng.choice([name + ".pt", "x.pkl", name.upper(), "x.safetensors"]))] = bytes(raw)
            return found
    found[name] = bytes(raw)
    return found


def forgery(files: Files, other: Files, rng: Rng) -> Files:
    """Other arrays, headers or values behind hashes that are right, as only who writes bundles can make them."""
    found = dict(files)
    recommender = json.loads(files[MANIFEST])["recommender"]
    tensors = sorted(name for name in files if name.endswith(".safetensors"))
    name = str(rng.choice(tensors))
    match int(rng.integers(0, 10)):
        case 0 | 1 | 2 | 3:
            found[name] = packed(_forged_arrays(arrays_of(files[name]), rng))
        case 4 | 5 | 6:
            _change(recommender, rng)
        case 7:
            found[name] = _forged_header(files[name], rng)
        case 8:
            found[name] = other.get(name) or other[str(rng.choice(sorted(set(other) - {MANIFEST, "items.parquet"})))]
        case _:
            name = "items.parquet" if "items.parquet" in files else name
            raw = bytearray(files[name])
            for _ in range(int(rng.integers(1, 4))):
                raw[int(rng.integers(0, len(raw)))] = int(rng.integers(0, 256))
            found[name] = bytes(raw)
    return sealed(found, recommender=recommender)


def _change(tree: Any, rng: Rng) -> None:
    """One value somewhere in plain values: another, gone, renamed, repeated or added."""
    places = [(parent, key) for parent, key in _places(tree)]
    parent, key = places[int(rng.integers(0, len(places)))]
    match int(rng.integers(0, 6)):
        case 0 if isinstance(parent, dict):
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[f"{key}_"] = parent.pop(key)
        case 2 if isinstance(parent, list):
            parent.append(parent[key])
        case 3:
            donor, place = places[int(rng.integers(0, len(places)))]
            if donor is not parent:
                parent[key] = json.loads(json.dumps(donor[place]))
        case _:
            parent[key] = _VALUES[int(rng.integers(0, len(_VALUES)))]


def _places(tree: Any) -> Any:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield tree, key
        yield from _places(value)


def _forged_arrays(arrays: dict[str, Any], rng: Rng) -> dict[str, Any]:
    if not arrays:
        return {"x": np.zeros(3, np.float32)}
    name = str(rng.choice(sorted(arrays)))
    array = np.array(arrays[name])
    flat = array.reshape(-1)
    match int(rng.integers(0, 11)):
        case 0:
            array = array.astype(str(rng.choice(_TYPES)))
        case 1:
            array = array.reshape(-1).view(np.uint8).view(_fitting(array.nbytes, rng))
        case 2:
            array = array[: int(rng.integers(0, len(array) + 1))] if array.ndim else array[None]
        case 3:
            array = np.concatenate([array, array]) if array.ndim else array[None]
        case 4:
            array = array.T.copy() if array.ndim > 1 else array[None]
        case 5 | 6 | 7 if flat.size:
            with np.errstate(all="ignore"):
                value = np.array(_NUMBERS[int(rng.integers(0, len(_NUMBERS)))])
                flat[int(rng.integers(0, flat.size))] = value.astype(array.dtype)
        case 8:
            rng.shuffle(flat)
        case 9:
            twin = str(rng.choice(sorted(arrays)))
            return {**arrays, name: arrays[twin], twin: arrays[name]}
        case _:
            found = {key: value for key, value in arrays.items() if key != name}
            return found | {name + "x": array} if rng.random() < 0.5 else found
    with np.errstate(all="ignore"):
        return {**arrays, name: array}


def _fitting(count: int, rng: Rng) -> str:
    return str(rng.choice([kind for kind in _TYPES if count % np.dtype(kind).itemsize == 0]))


def _forged_header(raw: bytes, rng: Rng) -> bytes:
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    if rng.random() < 0.5 and header:
        _change(header, rng)
        return raw_safetensors(header, raw[8 + size :])
    text = bytearray(raw[8 : 8 + size])
    text[int(rng.integers(0, len(text)))] = int(rng.integers(32, 127))
    return raw_safetensors(bytes(text), raw[8 + size :])
