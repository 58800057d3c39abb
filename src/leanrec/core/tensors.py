"""Named arrays on disk in the safetensors format, mapped read-only without a copy.

The header is checked against the bytes on disk before anything is allocated: offsets in order, no overlap, no gap,
shape x item size equal to the span (see the safetensors format description).
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from leanrec.core.errors import BundleError

__all__ = ["map_file", "map_tensors", "read_header", "serialize", "view_tensors", "write_tensors"]

_DTYPES: dict[str, npt.DTypeLike] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
_MAX_HEADER = 4 << 20  # 30,000 arrays; what JSON needs in memory is many times its text
_MAX_PARTS = 100_000
_MAX_RANK = 8


def serialize(tensors: Mapping[str, npt.NDArray[Any]], metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file."""
    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)


def write_tensors(
    path: str | Path | BinaryIO, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """A safetensors file (a path or an open one), array by array: unlike `serialize` it needs no memory for a copy."""
    names = {np.dtype(kind): name for name, kind in _DTYPES.items()}
    arrays = sorted(tensors.items(), key=lambda entry: (-entry[1].dtype.itemsize, entry[0]))  # so that all are aligned
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, array in arrays:
        header[name] = {
            "dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [end, end + array.nbytes],
        }  # fmt: skip
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") if isinstance(path, str | Path) else nullcontext(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in arrays:
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def read_header(buffer: memoryview | mmap.mmap, where: str) -> tuple[dict[str, Any], int]:
    """The checked header (name -> dtype, shape, data_offsets) and the position where data starts."""
    size = len(buffer)
    length = int.from_bytes(buffer[:8], "little") if size >= 8 else -1
    if not 2 <= length <= min(_MAX_HEADER, size - 8):
        raise BundleError(f"{where} is not a safetensors file, or is cut short: copy it again")
    try:
        text = bytes(buffer[8 : 8 + length]).decode()
        if text.count("[") + text.count("{") > _MAX_PARTS:
            raise ValueError(f"more than {_MAX_PARTS:,} lists and objects")
        header = json.loads(text, object_pairs_hook=_no_duplicates)
        if not isinstance(header, dict):
            raise TypeError("the header is no object")
        header.pop("__metadata__", None)
        spans = sorted(_check_entry(name, entry) for name, entry in header.items())
        end = 0
        for start, stop in spans:
            if start != end:
                raise ValueError("tensors overlap or leave a gap")
            end = stop
        if end != size - 8 - length:
            raise ValueError(f"tensors need {end} bytes, the file holds {size - 8 - length}")
    except (ValueError, TypeError, KeyError, RecursionError, UnicodeDecodeError) as error:
        raise BundleError(f"{where} has a broken safetensors header: {error}") from error
    return header, 8 + length


def _check_entry(name: str, entry: Any) -> tuple[int, int]:
    dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _DTYPES:
        raise ValueError(f"{name}: unknown type {dtype!r}")
    if not isinstance(shape, list) or len(shape) > _MAX_RANK:
        raise ValueError(f"{name}: bad shape")
    for number in (*shape, start, stop):
        if type(number) is not int or not 0 <= number < 1 << 62:
            raise ValueError(f"{name}: {number!r} is not a size")
    if math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize != stop - start:
        raise ValueError(f"{name}: shape {shape} does not fill its bytes")
    return start, stop


def map_tensors(path: str | Path | int, where: str | None = None) -> dict[str, npt.NDArray[Any]]:
    """The arrays in a safetensors file (a path or an open descriptor) as read-only views of the mapped file."""
    return view_tensors(map_file(path, where), where or str(path))


def map_file(path: str | Path | int, where: str | None = None) -> mmap.mmap:
    """A safetensors file (a path or an open descriptor), mapped read-only."""
    where = where or str(path)
    handle = path if isinstance(path, int) else os.open(path, os.O_RDONLY)
    try:
        if os.fstat(handle).st_size < 8:
            raise BundleError(f"{where} is not a safetensors file, or is cut short: copy it again")
        return mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
    finally:
        if not isinstance(path, int):
            os.close(handle)


def view_tensors(mapped: mmap.mmap, where: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays in a mapped safetensors file, without a copy; they keep the mapping."""
    header, start = read_header(mapped, where)
    result: dict[str, npt.NDArray[Any]] = {}
    for name, entry in header.items():
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        count = math.prod(entry["shape"])
        array = np.frombuffer(mapped, dtype=dtype, count=count, offset=start + entry["data_offsets"][0])
        result[name] = array.reshape(entry["shape"])
    return result
