"""Bundles: what is written is read, and what was touched, cut, swapped or made up is refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanrec.core.errors import BundleError, InputError, MachineError
from leanrec.core.tensors import serialize
from leanrec.runtime import bundle as bundles
from leanrec.runtime.bundle import bundle_id, history_folder, open_bundle, resolve_bundle, write_bundle
from leanrec.runtime.manifest import CHUNK, FileEntry, encode_manifest, hash_chunks
from leanrec.runtime.recommender import Recommender

from .toys import recommender

VALUES = "source-items.safetensors"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    recommender(index="certified-int8").save(tmp_path / "b")
    return tmp_path / "b"


def read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return manifest


def reseal(folder: Path, **changes: Any) -> None:
    """Write a manifest whose hashes are right for the files at hand: only the content is hostile."""
    old = read_manifest(folder)
    names = [path.name for path in folder.iterdir() if path.name != "manifest.json"]
    entries = {n: FileEntry((folder / n).stat().st_size, hash_chunks((folder / n).read_bytes())) for n in names}
    entries |= changes.pop("entries", {})
    fields = {key: changes.get(key, old[key]) for key in ("lineage", "card", "certificate")}
    _, raw = encode_manifest(changes.get("recommender", old["recommender"]), entries, **fields)
    (folder / "manifest.json").write_bytes(raw)


def raw_safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(3, dtype=np.int64)}
    files = {"x.safetensors": arrays, "items.parquet": b"any bytes"}
    identity = write_bundle(tmp_path / "b", files, {"k": 1}, lineage={"l": 1}, card={"c": 2.5}, certificate={"d": []})
    opened = open_bundle(tmp_path / "b")
    assert opened.id == identity == bundle_id(files, {"k": 1})
    np.testing.assert_array_equal(opened.tensors["x"]["a"], arrays["a"])
    assert not opened.tensors["x"]["a"].flags.writeable
    assert opened.items is not None and opened.items[:] == b"any bytes"
    manifest = opened.manifest
    assert (manifest.lineage, manifest.card, manifest.certificate) == ({"l": 1}, {"c": 2.5}, {"d": []})
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o755


def test_the_id_is_what_the_recommender_is_not_how_it_was_made(tmp_path: Path) -> None:
    one, two = (write_bundle(tmp_path / n, {}, {"k": 1}, card={"name": n}) for n in ("one", "two"))
    assert one == two
    assert bundle_id({}, {"k": 2}) != one


def test_large_files_are_hashed_in_chunks(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {"x.safetensors": {"a": np.ones(CHUNK // 4 + 5, np.float32)}}, {})
    assert len(read_manifest(tmp_path / "b")["files"]["x.safetensors"]["chunks"]) == 2
    open_bundle(tmp_path / "b")
    with open(tmp_path / "b" / "x.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x40")
    with pytest.raises(BundleError, match="changed after it was written"):
        open_bundle(tmp_path / "b")


def edit(name: str, change: Callable[[bytes], bytes], *, sealed: bool = False) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))
        if sealed:
            reseal(folder)

    return attack


def manifest_edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        manifest = read_manifest(folder)
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return attack


def named(name: str) -> Callable[[Path], None]:
    return lambda folder: reseal(folder, entries={name: FileEntry(4, hash_chunks(b"evil"))})


def replace_tensors(name: str, **arrays: Any) -> Callable[[Path], None]:
    return edit(name, lambda raw: serialize({k: np.asarray(v) for k, v in arrays.items()}), sealed=True)


def link(folder: Path, make: Callable[[Path, Path], None]) -> None:
    shutil.move(folder / VALUES, folder.parent / "elsewhere")
    make(folder.parent / "elsewhere", folder / VALUES)


def fifo(folder: Path) -> None:
    (folder / VALUES).unlink()
    os.mkfifo(folder / VALUES)


def nan_table(folder: Path) -> None:
    table = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    table[7, 3] = np.nan
    replace_tensors(VALUES, table=table)(folder)


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: reseal(folder, recommender={**read_manifest(folder)["recommender"], **changes})


def source(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: config(source={**read_manifest(folder)["recommender"]["source"], **changes})(folder)


ONE = np.zeros(1, np.uint8)
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated tensors": (edit(VALUES, lambda raw: raw[:-5]), "bytes instead of"),
    "empty file": (edit(VALUES, lambda raw: b"", sealed=True), "0 bytes"),
    "grown tensors": (edit(VALUES, lambda raw: raw + b"x"), "bytes instead of"),
    "edited byte": (edit(VALUES, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])), "changed after it was written"),
    "missing file": (lambda f: (f / VALUES).unlink(), "lacks source-items.safetensors"),
    "extra file": (lambda f: (f / "run.py").write_text("boom"), "holds 'run.py', which its manifest does not name"),
    "extra folder": (lambda f: (f / "__pycache__").mkdir(), "does not name"),
    "pickle by name": (lambda f: (f / "x.pkl").write_bytes(b"\x80\x04."), "does not name"),
    "symbolic link": (lambda f: link(f, lambda a, b: b.symlink_to(a)), "is a link"),
    "hard link": (lambda f: link(f, lambda a, b: os.link(a, b)), "one link"),
    "pipe": (fifo, "regular file"),
    "folder for a file": (lambda f: ((f / VALUES).unlink(), (f / VALUES).mkdir()), "regular file"),
    "manifest is a link": (
        lambda f: (shutil.move(f / "manifest.json", f.parent / "m"), (f / "manifest.json").symlink_to(f.parent / "m")),
        "manifest.json is a link",
    ),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json cannot be opened"),
    "empty manifest": (edit("manifest.json", lambda raw: b""), "not valid JSON"),
    "truncated manifest": (edit("manifest.json", lambda raw: raw[: len(raw) // 2]), "not valid JSON"),
    "manifest is no text": (edit("manifest.json", lambda raw: b"\xff\xfe" + raw), "not valid JSON"),
    "manifest is a list": (edit("manifest.json", lambda raw: b"[]"), "format None"),
    "absurd nesting": (edit("manifest.json", lambda raw: b"[" * 200_000), "not valid JSON"),
    "duplicate key": (edit("manifest.json", lambda raw: b'{"format": 1, "format": 1}'), "a key stands twice"),
    "NaN in the manifest": (edit("manifest.json", lambda raw: b'{"format": NaN}'), "NaN is no number"),
    "huge number": (edit("manifest.json", lambda raw: b'{"format": 1' + b"0" * 5000 + b"}"), "not valid JSON"),
    "other version": (manifest_edit(lambda m: m.update(format=2)), "format 2, this leanrec reads format 1"),
    "version as text": (manifest_edit(lambda m: m.update(format="1" * 999)), "this leanrec reads format 1"),
    "unknown key": (manifest_edit(lambda m: m.update(run="boom")), "manifest.json is refused"),
    "missing key": (manifest_edit(lambda m: m.pop("card")), "manifest.json is refused"),
    "wrong type": (manifest_edit(lambda m: m.update(files=[])), "manifest.json is refused"),
    "edited card": (manifest_edit(lambda m: m.update(card={"ndcg": 1})), "edited after it was written"),
    "edited id": (manifest_edit(lambda m: m.update(id="0" * 64)), "edited after it was written"),
    "edited rules": (manifest_edit(lambda m: m["recommender"].update(repeats=True)), "edited after it was written"),
    "wrong size": (manifest_edit(lambda m: m["files"][VALUES].update(size=1 << 60)), "do not add up"),
    "negative size": (manifest_edit(lambda m: m["files"][VALUES].update(size=-1)), "do not add up"),
    "no hash": (manifest_edit(lambda m: m["files"][VALUES].update(chunks=["no"])), "no SHA-256"),
    "wrong hash": (
        lambda f: reseal(f, entries={VALUES: FileEntry((f / VALUES).stat().st_size, ["0" * 64])}), "changed after",
    ),
    "too many files": (
        lambda f: reseal(f, entries={f"x{n}.safetensors": FileEntry(0, []) for n in range(1001)}), "more than 1000",
    ),
    "parent in a name": (named("../x.safetensors"), "impossible file name"),
    "absolute name": (named("/etc/x.safetensors"), "impossible file name"),
    "NUL in a name": (named("x\0.safetensors"), "impossible file name"),
    "encoded name": (named("%2e%2e%2fx.safetensors"), "impossible file name"),
    "hidden name": (named(".x.safetensors"), "impossible file name"),
    "dots in a name": (named("x..safetensors"), "impossible file name"),
    "other kind of file": (named("x.pkl"), "impossible file name"),
    "long name": (named("x" * 200 + ".safetensors"), "impossible file name"),
    "huge shape": (
        edit(VALUES, lambda raw: raw_safetensors({"table": tensor([1 << 40, 1 << 20], [0, 0])}), sealed=True),
        "does not fill its bytes",
    ),
    "overlapping tensors": (
        edit(VALUES, lambda raw: raw_safetensors({"a": tensor([2], [0, 8]), "b": tensor([2], [4, 12])}, b"0" * 12),
             sealed=True), "overlap",
    ),
    "duplicate tensors": (
        edit(VALUES, lambda raw: raw_safetensors(b'{"a":{},"a":{}}'), sealed=True), "a name stands twice",
    ),
    "gap between tensors": (
        edit(VALUES, lambda raw: raw_safetensors({"a": tensor([1], [4, 8])}, bytes(8)), sealed=True), "or leave a gap",
    ),
    "bytes of no tensor": (
        edit(VALUES, lambda raw: raw_safetensors({"a": tensor([1], [0, 4])}, bytes(8)), sealed=True), "file holds 8",
    ),
    "unknown type": (
        edit(VALUES, lambda raw: raw_safetensors({"a": tensor([1], [0, 4], "PICKLE")}, b"0" * 4), sealed=True),
        "unknown type 'PICKLE'",
    ),
    "endless rank": (
        edit(VALUES, lambda raw: raw_safetensors({"a": tensor([1] * 99, [0, 4])}, b"0" * 4), sealed=True), "bad shape",
    ),
    "negative shape": (
        edit(VALUES, lambda raw: raw_safetensors({"a": tensor([-1, -1], [0, 4])}, b"0" * 4), sealed=True), "not a size",
    ),
    "header is a list": (edit(VALUES, lambda raw: raw_safetensors([]), sealed=True), "the header is no object"),
    "header is no JSON": (edit(VALUES, lambda raw: raw_safetensors(b"\xff\xff"), sealed=True), "broken"),
    "a file of four bytes": (edit(VALUES, lambda raw: b"evil", sealed=True), "not a safetensors file"),
    "header longer than the file": (edit(VALUES, lambda raw: b"\xff" * 8 + raw[8:], sealed=True), "cut short"),
    "NaN in the item table": (nan_table, "NaN or infinity in 'table'"),
    "table of another size": (replace_tensors(VALUES, table=np.zeros((49, 8), np.float32)), "do not fit together"),
    "table of another type": (replace_tensors(VALUES, table=np.zeros((50, 8), np.float64)), "not a matrix of float32"),
    "no table": (replace_tensors(VALUES, other=np.zeros(1)), "do not fit together"),
    "index of another shape": (
        replace_tensors("source-index.safetensors", codes=np.zeros((50, 7), np.int8), scales=np.zeros(50, np.float32),
                        levels=np.zeros(50, np.uint8)), "do not fit together",
    ),
    "fewer ids": (replace_tensors("ids.safetensors", ids=np.arange(49), erased=np.zeros(49, np.uint8)), "do not fit"),
    "ids that stand twice": (
        replace_tensors("ids.safetensors", ids=np.zeros(50, np.int64), erased=np.zeros(50, np.uint8)), "do not fit",
    ),
    "falling offsets of ids": (
        replace_tensors("ids.safetensors", bytes=ONE, offsets=np.array([0, 9, 1]), erased=np.zeros(2, np.uint8)),
        "ids are damaged",
    ),
    "ids without text": (replace_tensors("ids.safetensors", erased=ONE), "do not fit together"),
    "rules of another kind": (config(repeats="yes"), "not one of a recommender"),
    "extra rule": (config(hook="os.system"), "not one of a recommender"),
    "no source": (config(source=None), "it has no source"),
    "unknown source": (source(kind="pickle"), "unknown source"),
    "unknown index": (source(config={"engine": {"kind": "toy-mean", "config": {}}, "index": "x"}), "unknown index"),
    "unknown engine": (source(config={"engine": {"kind": "x"}, "index": "exact"}), "unknown engine"),
}  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_bundles_are_refused(saved: Path, attack: str) -> None:
    change, message = HOSTILE[attack]
    change(saved)
    with pytest.raises(BundleError, match=message) as caught:
        Recommender.load(saved) if (saved / "manifest.json").exists() else open_bundle(saved)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_manifest_larger_than_any_is_not_read(saved: Path) -> None:
    os.truncate(saved / "manifest.json", 1 << 30)
    with pytest.raises(BundleError, match="larger than 64 MiB"):
        open_bundle(saved)


def test_nothing_is_unpickled_run_or_opened_elsewhere(saved: Path) -> None:
    seen: list[str] = []
    watching = True

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if watching and event in {"pickle.find_class", "os.system", "subprocess.Popen", "socket.connect"}:
            seen.append(event)
        if watching and event == "open" and isinstance(args[0], str) and not args[0].endswith((".py", ".pyc")):
            seen.append(args[0])

    Recommender.load(saved)
    sys.addaudithook(watch)
    try:
        Recommender.load(saved)
    finally:
        watching = False
    assert {Path(path).name for path in seen} <= {saved.name, *read_manifest(saved)["files"], "manifest.json"}


@pytest.mark.parametrize("seed", range(8))
def test_mutations_are_refused(saved: Path, seed: int) -> None:
    """A changed, lost or added byte anywhere, in any file."""
    rng = np.random.default_rng(seed)
    for path in sorted(saved.iterdir()):
        whole = path.read_bytes()
        for _ in range(4):
            raw = bytearray(whole)
            at = int(rng.integers(0, len(raw)))
            match int(rng.integers(0, 4)):
                case 0:
                    raw[at] ^= 1 << int(rng.integers(0, 8))
                case 1:
                    del raw[at]
                case 2:
                    raw.insert(at, int(rng.integers(0, 256)))
                case _:
                    del raw[at:]
            path.write_bytes(raw)
            if path.name == "manifest.json" and _same(raw, whole):
                continue
            with pytest.raises(BundleError):
                open_bundle(saved)
        path.write_bytes(whole)
    open_bundle(saved)


def _same(raw: bytes, whole: bytes) -> bool:
    """White space in JSON means nothing."""
    try:
        return bool(json.loads(raw) == json.loads(whole))
    except ValueError:
        return False


def test_a_bundle_replaced_while_it_is_read_is_read_again(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = recommender(seed=1)
    read, calls = bundles._read_manifest, []

    def slow(folder: int, where: str) -> bytes:
        raw = read(folder, where)
        if not calls:
            calls.append(1)
            newer.save(saved)  # the files of the older one are gone now
        return raw

    monkeypatch.setattr(bundles, "_read_manifest", slow)
    assert open_bundle(saved).id == newer.id


def test_a_bundle_removed_while_it_is_read_is_an_error(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = bundles._read_manifest

    def slow(folder: int, where: str) -> bytes:
        raw = read(folder, where)
        shutil.rmtree(saved)
        return raw

    monkeypatch.setattr(bundles, "_read_manifest", slow)
    with pytest.raises(BundleError, match="lacks"):
        open_bundle(saved)


def test_places(tmp_path: Path) -> None:
    write_bundle(tmp_path / "run" / "bundle", {}, {})
    assert resolve_bundle(tmp_path / "run") == tmp_path / "run" / "bundle"
    assert resolve_bundle(tmp_path / "run" / "bundle") == tmp_path / "run" / "bundle"
    assert history_folder(tmp_path / "run") == tmp_path / "run" / "history"
    assert history_folder(tmp_path / "run" / "bundle") == tmp_path / "run" / "history"
    assert history_folder(tmp_path / "lean") == tmp_path / "lean.history"
    with pytest.raises(InputError, match="does not exist"):
        resolve_bundle(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is not a bundle: it has no manifest\.json"):
        resolve_bundle(tmp_path / "empty")
    with pytest.raises(BundleError, match="cannot be opened as a bundle"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="cannot be opened as a bundle"):
        open_bundle(tmp_path / "run" / "bundle" / "manifest.json")


def test_only_a_bundle_or_nothing_is_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists and is not a bundle"):
        write_bundle(precious, {}, {})
    with pytest.raises(InputError, match="exists and is not a bundle"):
        write_bundle(precious / "thesis.tex", {}, {})
    assert (precious / "thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", {}, {})


def test_what_cannot_be_read_back_is_not_published(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {}, {"k": 1})
    with pytest.raises(BundleError, match="NaN or infinity"):
        write_bundle(tmp_path / "b", {"x.safetensors": {"a": np.array([np.nan], np.float32)}}, {"k": 2})
    assert open_bundle(tmp_path / "b").manifest.recommender == {"k": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundles, "_write", full)
    with pytest.raises(MachineError, match="no space left"):
        write_bundle(tmp_path / "b", {"x.safetensors": {}}, {})
    assert not list(tmp_path.iterdir())


def test_hash_is_sha256() -> None:
    assert hash_chunks(b"abc") == [hashlib.sha256(b"abc").hexdigest()]
    assert hash_chunks(b"") == []
