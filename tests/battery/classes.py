"""Hand-made hostile bundles: what is done to a folder, and the words with which it has to be refused.

Battery row 5. Each is a class of attack of its own; `tests/battery/child.py` opens them all.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from leanrec.core.tensors import serialize
from leanrec.runtime.manifest import MANIFEST, FileEntry, encode_manifest, hash_chunks

from .forge import arrays_of, raw_safetensors, read_files, sealed

__all__ = ["CLASSES", "SAFE", "Attack"]

Attack = Callable[[Path], object]
VALUES = "source-items.safetensors"
ITEMS, DIM = 40, 8


class Boom:
    """Unpickled, it runs a command."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch boom",)


def reseal(folder: Path, **changes: Any) -> None:
    for name, raw in sealed(read_files(folder), **changes).items():
        (folder / name).write_bytes(raw)


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    return found


def edit(name: str, change: Callable[[bytes], bytes], *, seal: bool = False) -> Attack:
    def attack(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))
        if seal:
            reseal(folder)

    return attack


def manifest_edit(change: Callable[[dict[str, Any]], object]) -> Attack:
    def attack(folder: Path) -> None:
        manifest = manifest_of(folder)
        change(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return attack


def named(name: str) -> Attack:
    return lambda folder: reseal(folder, entries={name: FileEntry(4, hash_chunks(b"evil"))})


def holding(name: str, content: bytes) -> Attack:
    """A file of that name, in the manifest with its right hash."""

    def attack(folder: Path) -> None:
        (folder / name).write_bytes(content)
        reseal(folder)

    return attack


def arrays(name: str, **changes: Any) -> Attack:
    """Other arrays in a file, None for one that is gone; sealed."""

    def attack(folder: Path) -> None:
        found = {**arrays_of((folder / name).read_bytes()), **changes}
        (folder / name).write_bytes(serialize({k: np.asarray(v) for k, v in found.items() if v is not None}))
        reseal(folder)

    return attack


def headed(header: Any, data: bytes = b"", name: str = VALUES) -> Attack:
    return edit(name, lambda raw: raw_safetensors(header, data), seal=True)


def tensor(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def link(make: Callable[[Path, Path], None]) -> Attack:
    def attack(folder: Path) -> None:
        shutil.move(folder / VALUES, folder.parent / "elsewhere")
        make(folder.parent / "elsewhere", folder / VALUES)

    return attack


def instead(make: Callable[[Path], object]) -> Attack:
    """Something else under the name of the item table."""

    def attack(folder: Path) -> None:
        (folder / VALUES).unlink()
        make(folder / VALUES)

    return attack


def unix_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def device(path: Path) -> None:
    """/dev/zero, or where that is not allowed, another thing that is no file."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        os.mkfifo(path)


def sparse(folder: Path) -> None:
    os.truncate(folder / VALUES, 1 << 40)


def manifest_link(folder: Path) -> None:
    shutil.move(folder / MANIFEST, folder.parent / "m")
    (folder / MANIFEST).symlink_to(folder.parent / "m")


def without_source(folder: Path) -> None:
    for path in folder.glob("source-*"):
        path.unlink()
    config(source=None)(folder)


def config(**changes: Any) -> Attack:
    return lambda folder: reseal(folder, recommender={**manifest_of(folder)["recommender"], **changes})


def source(change: Callable[[dict[str, Any]], object]) -> Attack:
    """The source's configuration, changed in place."""

    def attack(folder: Path) -> None:
        recommender = manifest_of(folder)["recommender"]
        change(recommender["source"])
        reseal(folder, recommender=recommender)

    return attack


def engine(**changes: Any) -> Attack:
    return source(lambda s: s["config"]["engine"]["config"].update(changes))


def inner(**changes: Any) -> Attack:
    return source(lambda s: s["config"].update(changes))


def nested(depth: int) -> dict[str, Any]:
    found = {"kind": "popular", "name": "p", "config": {}}
    for _ in range(depth):
        found = {"kind": "chain", "name": "c", "config": {"sources": [found]}}
    return found


def unsealed_number(text: bytes) -> Attack:
    """A number that JSON can say and no float can hold, sealed as Python reads it."""

    def attack(folder: Path) -> None:
        recommender = manifest_of(folder)["recommender"]
        recommender["source"]["config"]["half_life"] = float("inf")
        files = read_files(folder)
        entries = {n: FileEntry(len(raw), hash_chunks(raw)) for n, raw in files.items() if n != MANIFEST}
        recommender["source"]["config"]["half_life"] = 8.5
        _, raw = encode_manifest(recommender, entries, lineage={}, card={}, certificate=None)
        (folder / MANIFEST).write_bytes(raw.replace(b"8.5", text))

    return attack


def observed(folder: Path) -> None:
    name, square = "blocks.0.up", np.zeros((DIM, DIM))
    found = {"square": square, "sizes": np.zeros(256, np.int64), "count": np.zeros(1, np.int64)}
    found["kind"] = np.frombuffer(b"observed", np.uint8)
    arrays("source-engine.safetensors", **{f"{name}.{part}": array for part, array in found.items()})(folder)


def parquet(rows: int, **columns: Any) -> bytes:
    import polars as pl

    out = BytesIO()
    pl.DataFrame({"item_id": range(rows), **columns}).write_parquet(out, compression="zstd")
    return out.getvalue()


def parquet_rows() -> bytes:
    """A footer that says a billion rows where 40 are."""
    raw = parquet(ITEMS)
    at = raw.rindex(bytes([0x16, 80]))  # num_rows, 40 in zigzag
    return raw[:at] + b"\x16\x80\xa8\xd6\xb9\x07" + raw[at + 2 : -8] + raw[-8:]


def parquet_bomb() -> bytes:
    """Texts of zeros: 256 MB in some kilobytes."""
    return parquet(ITEMS, text=["0" * (6 << 20) + str(n) for n in range(ITEMS)])


def parquet_lists() -> bytes:
    """Lists of the same number a hundred million times."""
    import polars as pl

    row = pl.Series([7], dtype=pl.UInt8).new_from_index(0, 3_000_000)
    return parquet(ITEMS, tags=[row] * ITEMS)


FIRST, INT8, FALL = "source-embedding", "index-certified-int8", "fallback-popular.safetensors"
INDEX = "source-index.safetensors"
NEAR, WORDS, ALIKE, CLICKS = "source-neighbours", "source-content", "source-similar-users", "scoring engine-plan"
FIXED = "way to run an encoder-fixed"
LAYER = "engine-transformer"
ONE = np.zeros(1, np.uint8)
F32 = np.float32

_PLACES: dict[str, tuple[str, Attack, str]] = {
    "truncated tensors": (FIRST, edit(VALUES, lambda raw: raw[:-5]), "bytes instead of"),
    "empty file": (FIRST, edit(VALUES, lambda raw: b"", seal=True), "0 bytes"),
    "grown tensors": (FIRST, edit(VALUES, lambda raw: raw + b"x"), "bytes instead of"),
    "edited byte": (FIRST, edit(VALUES, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])), "changed after it was written"),
    "missing file": (FIRST, lambda f: (f / VALUES).unlink(), "lacks source-items.safetensors"),
    "extra file": (FIRST, lambda f: (f / "run.py").write_text("boom"), "holds 'run.py', which its manifest does not"),
    "extra folder": (FIRST, lambda f: (f / "__pycache__").mkdir(), "does not name"),
    "pickle by name": (FIRST, lambda f: (f / "x.pkl").write_bytes(pickle.dumps(Boom())), "does not name"),
    "torch archive by name": (FIRST, lambda f: (f / "model.pt").write_bytes(b"PK\x03\x04"), "does not name"),
    "pickle for the manifest": (FIRST, lambda f: (f / MANIFEST).write_bytes(pickle.dumps(Boom())), "not valid JSON"),
    "pickle for tensors": (FIRST, edit(VALUES, lambda raw: pickle.dumps(Boom()), seal=True), "not a safetensors file"),
    "pickle behind a header": (FIRST, headed({"table": tensor([ITEMS, DIM], [0, 1280])}, pickle.dumps(Boom())), "need"),
    "pickle for attributes": (FIRST, holding("items.parquet", pickle.dumps(Boom())), "items.parquet cannot be read"),
    "pickle type": (FIRST, headed({"table": tensor([1], [0, 4], "PICKLE")}, b"0" * 4), "unknown type 'PICKLE'"),
    "object type": (FIRST, headed({"table": tensor([1], [0, 8], "O")}, b"0" * 8), "unknown type 'O'"),
    "symbolic link": (FIRST, link(lambda a, b: b.symlink_to(a)), "is a link"),
    "link to itself": (FIRST, instead(lambda p: p.symlink_to(p.name)), "is a link"),
    "link to a secret": (FIRST, instead(lambda p: p.symlink_to("/etc/passwd")), "is a link"),
    "hard link": (FIRST, link(lambda a, b: os.link(a, b)), "one link"),
    "pipe": (FIRST, instead(os.mkfifo), "regular file"),
    "device": (FIRST, instead(device), "regular file"),
    "socket": (FIRST, instead(unix_socket), "cannot be opened"),
    "folder for a file": (FIRST, instead(lambda p: p.mkdir()), "regular file"),
    "sparse terabyte": (FIRST, sparse, "1099511627776 bytes instead of"),
    "swapped files": (
        INT8, lambda f: (shutil.move(f / VALUES, f / "t"), shutil.move(f / INDEX, f / VALUES),
                         shutil.move(f / "t", f / INDEX)), "bytes instead of",
    ),
    "manifest is a link": (FIRST, manifest_link, "manifest.json is a link"),
    "manifest is a folder": (FIRST, lambda f: ((f / MANIFEST).unlink(), (f / MANIFEST).mkdir()), "regular file"),
    "manifest is a pipe": (FIRST, lambda f: ((f / MANIFEST).unlink(), os.mkfifo(f / MANIFEST)), "regular file"),
}  # fmt: skip

_MANIFESTS: dict[str, tuple[str, Attack, str]] = {
    "empty manifest": (FIRST, edit(MANIFEST, lambda raw: b""), "not valid JSON"),
    "truncated manifest": (FIRST, edit(MANIFEST, lambda raw: raw[: len(raw) // 2]), "not valid JSON"),
    "manifest is no text": (FIRST, edit(MANIFEST, lambda raw: b"\xff\xfe" + raw), "not valid JSON"),
    "manifest is a list": (FIRST, edit(MANIFEST, lambda raw: b"[]"), "format None"),
    "manifest of 8 EiB": (FIRST, lambda f: os.truncate(f / MANIFEST, 1 << 40), "larger than 8 MiB"),
    "manifest of empty lists": (
        FIRST, edit(MANIFEST, lambda raw: b'{"format":[' + b"[]," * 2_600_000 + b"[]]}"), "more than 100,000 lists",
    ),
    "a list for a version": (FIRST, edit(MANIFEST, lambda raw: b'{"format":[1]}'), "format that is a list"),
    "manifest in UTF-16": (FIRST, edit(MANIFEST, lambda raw: raw.decode().encode("utf-16-le")), "not valid JSON"),
    "absurd nesting": (FIRST, edit(MANIFEST, lambda raw: b"[" * 200_000), "not valid JSON"),
    "nested objects": (FIRST, edit(MANIFEST, lambda raw: b'{"format":1,"a":' * 100_000), "not valid JSON"),
    "duplicate key": (FIRST, edit(MANIFEST, lambda raw: b'{"format": 1, "format": 1}'), "a key stands twice"),
    "duplicate key deep down": (
        FIRST, edit(MANIFEST, lambda raw: raw.replace(b'"size":', b'"size": 7, "size":', 1)), "a key stands twice",
    ),
    "NaN in the manifest": (FIRST, edit(MANIFEST, lambda raw: b'{"format": NaN}'), "NaN is no number"),
    "infinity in the manifest": (NEAR, unsealed_number(b"Infinity"), "Infinity is no number"),
    "infinity spelt as a number": (NEAR, unsealed_number(b"1e999"), "too large a number"),
    "huge number": (FIRST, edit(MANIFEST, lambda raw: b'{"format": 1' + b"0" * 5000 + b"}"), "not valid JSON"),
    "other version": (FIRST, manifest_edit(lambda m: m.update(format=2)), "format 2, this leanrec reads format 1"),
    "version true": (FIRST, manifest_edit(lambda m: m.update(format=True)), "manifest.json is refused"),
    "version as text": (FIRST, manifest_edit(lambda m: m.update(format="1" * 999)), "this leanrec reads format 1"),
    "unknown key": (FIRST, manifest_edit(lambda m: m.update(run="boom")), "manifest.json is refused"),
    "missing key": (FIRST, manifest_edit(lambda m: m.pop("card")), "manifest.json is refused"),
    "wrong type": (FIRST, manifest_edit(lambda m: m.update(files=[])), "manifest.json is refused"),
    "edited card": (FIRST, manifest_edit(lambda m: m.update(card={"ndcg": 1})), "edited after it was written"),
    "edited id": (FIRST, manifest_edit(lambda m: m.update(id="0" * 64)), "edited after it was written"),
    "edited seal": (FIRST, manifest_edit(lambda m: m.update(seal="0" * 64)), "edited after it was written"),
    "edited rules": (FIRST, manifest_edit(lambda m: m["recommender"].update(repeats=True)), "edited after it was"),
    "edited certificate": (FIRST, manifest_edit(lambda m: m.update(certificate={})), "edited after it was written"),
    "wrong size": (FIRST, manifest_edit(lambda m: m["files"][VALUES].update(size=1 << 60)), "do not add up"),
    "negative size": (FIRST, manifest_edit(lambda m: m["files"][VALUES].update(size=-1)), "do not add up"),
    "size beyond 64 bits": (FIRST, manifest_edit(lambda m: m["files"][VALUES].update(size=10**40)), "refused"),
    "hash that is none": (FIRST, manifest_edit(lambda m: m["files"][VALUES].update(chunks=["x"])), "has no SHA-256"),
    "hash in capitals": (
        FIRST, manifest_edit(lambda m: m["files"][VALUES].update(chunks=["A" * 64])), "has no SHA-256",
    ),
    "wrong hash": (
        FIRST, lambda f: reseal(f, entries={VALUES: FileEntry((f / VALUES).stat().st_size, ["0" * 64])}),
        "changed after",
    ),
    "too many files": (
        FIRST, lambda f: reseal(f, entries={f"x{n}.safetensors": FileEntry(0, []) for n in range(1001)}), "than 1000",
    ),
}  # fmt: skip

_NAMES: dict[str, tuple[str, Attack, str]] = {
    f"name {name[:40]!r}": (FIRST, named(name), "impossible file name")
    for name in (
        "../x.safetensors", "..%2fx.safetensors", "%2e%2e%2fx.safetensors", "%252e%252e%252fx.safetensors",
        "..\\x.safetensors", "/etc/x.safetensors", "x\0.safetensors", ".x.safetensors", "x..safetensors", "x.pkl",
        "x.pt", "x.so", "sub/x.safetensors", "x" * 200 + ".safetensors", "X.safetensors", "ﾊ.safetensors",
        "x.safetensors\n", " x.safetensors", "", "manifest.json", "con", "~x.safetensors", "x.safetensors.safetensors/",
    )
}  # fmt: skip

_HEADERS: dict[str, tuple[str, Attack, str]] = {
    "huge shape": (FIRST, headed({"table": tensor([1 << 40, 1 << 20], [0, 0])}), "does not fill its bytes"),
    "a billion rows": (FIRST, headed({"table": tensor([10**9, 8], [0, 1280])}, bytes(1280)), "does not fill its bytes"),
    "shape that overflows": (FIRST, headed({"table": tensor([1 << 61, 8], [0, 0])}), "does not fill its bytes"),
    "shape of many zeros": (FIRST, headed({"table": tensor([0, 1 << 62], [0, 0])}), "not a size"),
    "overlapping tensors": (
        FIRST, headed({"a": tensor([2], [0, 8]), "b": tensor([2], [4, 12])}, b"0" * 12), "overlap",
    ),
    "the same bytes twice": (FIRST, headed({"a": tensor([2], [0, 8]), "b": tensor([2], [0, 8])}, b"0" * 8), "overlap"),
    "duplicate tensors": (FIRST, headed(b'{"a":{},"a":{}}'), "a name stands twice"),
    "duplicate fields": (FIRST, headed(b'{"a":{"dtype":"F32","dtype":"F32"}}'), "a name stands twice"),
    "gap between tensors": (FIRST, headed({"a": tensor([1], [4, 8])}, bytes(8)), "or leave a gap"),
    "bytes of no tensor": (FIRST, headed({"a": tensor([1], [0, 4])}, bytes(8)), "file holds 8"),
    "endless rank": (FIRST, headed({"a": tensor([1] * 99, [0, 4])}, b"0" * 4), "bad shape"),
    "negative shape": (FIRST, headed({"a": tensor([-1, -1], [0, 4])}, b"0" * 4), "not a size"),
    "negative offsets": (FIRST, headed({"a": tensor([1], [-4, 0])}, b"0" * 4), "not a size"),
    "offsets that fall": (FIRST, headed({"a": tensor([1], [4, 0])}, b"0" * 4), "does not fill its bytes"),
    "offsets of text": (FIRST, headed({"a": {**tensor([1], [0, 4]), "data_offsets": ["0", "4"]}}, b"0" * 4), "a size"),
    "shape of true": (FIRST, headed({"a": {**tensor([1], [0, 4]), "shape": [True]}}, b"0" * 4), "not a size"),
    "header is a list": (FIRST, headed([]), "the header is no object"),
    "header is no JSON": (FIRST, headed(b"\xff\xff"), "broken"),
    "header of a million lists": (FIRST, headed(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}"), "more than 100,000 lists"),
    "header in UTF-16": (FIRST, headed('{"a":{}}'.encode("utf-16-le")), "broken"),
    "header of lists": (FIRST, headed(b"[" * 100_000), "broken"),
    "header of 40 MB": (FIRST, headed(b'{"__metadata__":{"x":"' + b" " * (40 << 20) + b'"}}'), "not a safetensors"),
    "a file of four bytes": (FIRST, edit(VALUES, lambda raw: b"evil", seal=True), "not a safetensors file"),
    "header longer than the file": (FIRST, edit(VALUES, lambda raw: b"\xff" * 8 + raw[8:], seal=True), "cut short"),
    "header of no length": (FIRST, edit(VALUES, lambda raw: bytes(8) + raw[8:], seal=True), "cut short"),
}  # fmt: skip

_table = np.random.default_rng(0).standard_normal((ITEMS, DIM), dtype=F32)
_CONTENT: dict[str, tuple[str, Attack, str]] = {
    "NaN in the item table": (FIRST, arrays(VALUES, table=np.full((ITEMS, DIM), np.nan, F32)), "NaN or infinity in"),
    "infinity in the item table": (FIRST, arrays(VALUES, table=np.full((ITEMS, DIM), np.inf, F32)), "NaN or infinity"),
    "infinity in scales": (INT8, arrays(INDEX, scales=np.full(ITEMS, np.inf, F32)), "NaN or infinity in 'scales'"),
    "NaN among half floats": (FIRST, arrays(VALUES, table=np.full((ITEMS, DIM), np.nan, np.float16)), "NaN or"),
    "table of fewer rows": (FIRST, arrays(VALUES, table=_table[1:]), "bundle is damaged"),
    "table of double": (FIRST, arrays(VALUES, table=_table.astype(np.float64)), "not a matrix of float32"),
    "table of one dimension": (FIRST, arrays(VALUES, table=_table.ravel()), "not a matrix of float32"),
    "no table": (FIRST, arrays(VALUES, table=None), "do not fit together"),
    "one array more": (FIRST, arrays(VALUES, hook=ONE), "means nothing to this leanrec"),
    "codes of another shape": (INT8, arrays(INDEX, codes=np.zeros((ITEMS, 7), np.int8)), "no array 'codes'"),
    "codes of another type": (INT8, arrays(INDEX, codes=np.zeros((ITEMS, DIM), np.int16)), "no array 'codes'"),
    "fewer scales": (INT8, arrays(INDEX, scales=np.zeros(ITEMS - 1, F32)), "no array 'scales'"),
    "no levels": (INT8, arrays(INDEX, levels=None), "no array 'levels'"),
    "norms of another type": (FIRST, arrays(INDEX, norms=np.zeros(ITEMS)), "no array 'norms'"),
    "index of another kind": (FIRST, inner(index="certified-int8"), "no array 'scales'"),
    "fewer ids": (
        FIRST, arrays("ids.safetensors", bytes=None, offsets=None, ids=np.arange(39), erased=np.zeros(39, np.uint8)),
        "do not fit together",
    ),
    "ids that stand twice": (
        FIRST, arrays("ids.safetensors", bytes=None, offsets=None, ids=np.zeros(ITEMS, np.int64)), "must be distinct",
    ),
    "texts that stand twice": (
        FIRST, arrays("ids.safetensors", bytes=np.zeros(ITEMS, np.uint8), offsets=np.arange(ITEMS + 1)), "be distinct",
    ),
    "texts that are none": (
        FIRST, arrays("ids.safetensors", bytes=np.full(ITEMS, 0xFF, np.uint8), offsets=np.arange(ITEMS + 1)), "not fit",
    ),
    "falling offsets of ids": (
        FIRST, arrays("ids.safetensors", bytes=ONE, offsets=np.array([0, 9, 1]), erased=np.zeros(2, np.uint8)),
        "ids are damaged",
    ),
    "ids without text": (FIRST, arrays("ids.safetensors", bytes=None, offsets=None), "do not fit together"),
    "ids of users who are none": (NEAR, holding("users.safetensors", serialize({"erased": ONE})), "do not fit"),
    "neighbours out of range": (
        NEAR, arrays("source-neighbours.safetensors", items=np.full(3 * ITEMS, ITEMS, np.int32)), "is no item",
    ),
    "neighbours below zero": (
        NEAR, arrays("source-neighbours.safetensors", items=np.full(3 * ITEMS, -1, np.int32)), "is no item",
    ),
    "a layer that writes to its arrays": (LAYER, observed, "do not have the shape that a observed layer has"),
    "NaN among bfloat16": (
        "dense layer-bfloat16",
        arrays("source-engine.safetensors", **{"blocks.0.up.weight": np.full((32, DIM), 0x7FC0, np.uint16)}),
        "do not have the shape that a bfloat16 layer has",
    ),
    "a layer of an unknown kind": (
        LAYER, arrays("source-engine.safetensors", **{"blocks.0.up.kind": np.frombuffer(b"pickle", np.uint8)}),
        "unknown dense layer 'pickle'",
    ),
    "offsets beyond the neighbours": (
        NEAR, arrays("source-neighbours.safetensors", offsets=np.arange(ITEMS + 1) * 9), "do not cover",
    ),
    "popularity of other items": (FIRST, arrays(FALL, scores=np.zeros(7, F32)), "is about 7 items"),
    "terms out of range": (
        WORDS, arrays("source-content.safetensors", terms=np.full(2 * ITEMS, 2**31 - 1, np.int32)), "out of range",
    ),
    "file that belongs to nothing": (FIRST, holding("evil.safetensors", serialize({"a": ONE})), "belongs to nothing"),
    "part that belongs to nothing": (
        FIRST, holding("source-evil.safetensors", serialize({"a": ONE})), "means nothing to this leanrec",
    ),
    "attributes of other items": (FIRST, holding("items.parquet", parquet(7)), "has 7 rows for 40 items"),
    "attributes of a billion rows": (FIRST, holding("items.parquet", parquet_rows()), "items.parquet"),
    "attributes that unpack to 256 MB": (FIRST, holding("items.parquet", parquet_bomb()), "would unpack to"),
    "attributes of endless lists": (FIRST, holding("items.parquet", parquet_lists()), "would unpack to"),
    "attributes cut short": (FIRST, holding("items.parquet", parquet(ITEMS)[:-20]), "items.parquet cannot be read"),
}  # fmt: skip

_CONFIGS: dict[str, tuple[str, Attack, str]] = {
    "rules of another kind": (FIRST, config(repeats="yes"), "not one of a recommender"),
    "extra rule": (FIRST, config(hook="os.system"), "not one of a recommender"),
    "no source": (FIRST, config(source=None), "belongs to nothing"),
    "no source, and none of its files": (FIRST, without_source, "it has no source"),
    "unknown source": (FIRST, source(lambda s: s.update(kind="pickle")), "unknown source"),
    "source by module": (FIRST, source(lambda s: s.update(kind="os:system")), "unknown source"),
    "unknown index": (FIRST, inner(index="x"), "unknown index"),
    "unknown engine": (FIRST, source(lambda s: s["config"]["engine"].update(kind="x")), "unknown engine"),
    "unknown setting of a source": (FIRST, inner(hook="os.system"), "means nothing to this leanrec"),
    "unknown setting of an engine": (FIRST, engine(hook="os.system"), "unknown key"),
    "true for a number of threads": (
        FIXED, source(lambda s: s["config"]["engine"]["way"].update(threads=True)), "way to run its encoder is not one",
    ),
    "unknown scorer": (CLICKS, source(lambda s: s["config"]["engine"].update(kind="x")), "unknown scoring engine"),
    "unknown operation": (
        CLICKS, source(lambda s: s["config"]["engine"]["config"]["plan"][0].update(op="eval")), "does not fit",
    ),
    "unknown merge": ("merge-rrf", source(lambda s: s["config"]["merge"].update(kind="x")), "unknown merge"),
    "unknown re-ranker": ("re-ranker-caps", source(lambda s: s["config"]["rerank"][0].update(kind="x")), "unknown re-"),
    "a billion layers": ("engine-gru", engine(layers=10**9), "layers must be between"),
    "a billion blocks": ("engine-hstu", engine(layers=10**9), "layers must be between"),
    "a window of a billion": ("engine-caser", engine(window=10**9), "window must be between"),
    "a trillion positions": ("engine-transformer", engine(positions="rotary", max_length=10**12), "must be between"),
    "a depth of a billion": ("source-hybrid", inner(depth=10**9), "depth"),
    "two billion terms": (WORDS, inner(num_terms=2**31 - 1), "num_terms"),
    "a window beyond numbers": (ALIKE, inner(window=10**30), "window"),
    "a history of a billion": (CLICKS, source(lambda s: s["config"]["engine"]["config"].update(history=10**9)), "rows"),
    "a history of less than nothing": (CLICKS, source(lambda s: s["config"]["tables"].update(history=-5)), "-5 items"),
    "a task that is not there": (CLICKS, inner(task=1), "task 1"),
    "items that are not there": (CLICKS, inner(items=41), "41 items"),
    "weights for other sources": (
        "merge-rrf", source(lambda s: s["config"]["merge"]["config"].update(weights=[1])), "1 weights for 2 sources",
    ),
    "batches of a billion": (FIRST, config(answering={"max_batch": 10**9}), "max_batch lies from"),
    "a way to answer that is no setting": (FIRST, config(answering={"hook": "os.system"}), "unknown key"),
    "text for a number of threads": (FIRST, config(answering={"threads": "1"}), "read as"),
    "no settings at all": (FIRST, config(answering=[1]), "do not fit together"),
    "weights that overflow": (
        "re-ranker-mmr", source(lambda s: s["config"]["merge"]["config"].update(weights=[1e308, 0.5])), "1e+30",
    ),
    "more centroids than lists": (
        "index-ivf-int4", arrays("source-index.safetensors", centroids=np.zeros((999, DIM), F32)), "'centroids'",
    ),
    "sources within sources": (FIRST, config(fallback=nested(200)), "is broken"),
    "text for a number": (
        "re-ranker-caps", source(lambda s: s["config"]["rerank"][0]["config"].update(at_most="2")), "read as",
    ),
}  # fmt: skip

CLASSES = _PLACES | _MANIFESTS | _NAMES | _HEADERS | _CONTENT | _CONFIGS
"""Name -> the kind of bundle (`REGISTRY-KIND`), the attack, the words of the refusal."""

SAFE: dict[str, tuple[str, Attack, str]] = {
    "white space in the manifest": (FIRST, manifest_edit(lambda m: None), ""),
    "the same again": (FIRST, reseal, ""),
}
"""What does not matter: the same recommender."""
CLASSES |= SAFE
