"""A process that opens hostile bundles, one after the other, under a limit of memory and an audit hook.

`python -O -m tests.battery.child JOB.json` (assertions are off: nothing that protects may be one) writes result.json:
how many were tried, refused, the same and sound, by hand and by mutation, the slowest and the growth; and what went
wrong.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import leanrec
from leanrec.core.errors import BundleError, InputError, LeanrecError
from leanrec.core.jagged import Jagged
from leanrec.index import Index
from leanrec.runtime.manifest import MANIFEST
from leanrec.runtime.recommender import Recommender

from .classes import CLASSES, SAFE
from .forge import Workplace, read_files
from .mutations import damage, forgery

_ROOM = 1 << 30
"""Bytes of address space beyond what the process has once it is warm."""
_SECONDS = 1.0
_STOPPED = {
    "pickle.find_class", "marshal.loads", "marshal.load", "compile", "os.system", "os.exec", "os.fork", "os.forkpty",
    "os.posix_spawn", "os.remove", "os.rename", "os.mkdir", "os.chmod", "os.link", "os.symlink", "os.truncate",
    "subprocess.Popen", "shutil.rmtree", "shutil.copyfile", "shutil.move", "tempfile.mkstemp", "tempfile.mkdtemp",
    "ctypes.dlopen", "import", "exec",
}  # fmt: skip
_INSTALLED = tuple({sys.prefix, sys.base_prefix, str(Path(leanrec.__file__).parent), "/usr/lib", "/proc/self"})


class Watch:
    """What happens while a bundle is opened and asked, beyond reading it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.on, self.seen = str(folder), False, []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode = str(args[0]), args[1]
            inside = isinstance(args[0], int) or path.startswith(self.folder) or "/" not in path
            if not inside and not path.startswith(_INSTALLED):
                self.seen.append(f"open {path}")
            if isinstance(mode, str) and set(mode) & set("wax+"):
                self.seen.append(f"write {path}")
        elif event in _STOPPED or event.startswith(("socket.", "winreg.", "urllib", "ftplib", "http.")):
            what = args[0] if args else ""
            self.seen.append(f"{event} {getattr(what, 'co_filename', str(what)[:60])}")


class Finding(Exception):
    """Something that must not be."""


def ask(model: Recommender) -> tuple[bytes, ...]:
    """Every kind of question; a Finding when an answer is impossible."""
    size = len(model.items)
    rng = np.random.default_rng(1)
    histories = Jagged.from_rows([rng.integers(0, max(size, 1), n).astype(np.int32) for n in (1, 3, 12, 2)])
    if not size:
        histories = Jagged.from_rows([[], []])
    batch = len(histories)
    users = None if model.users is None else rng.integers(-1, max(len(model.users), 1), batch).astype(np.int32)
    context = {"timestamp": [1.6e9, None, -1e300, "x"][:batch]}
    times = Jagged(np.sort(rng.random(len(histories.values))) * 1e9, histories.offsets)
    found: list[bytes] = []
    for more in ({}, {"users": users, "context": context}, {"times": times, "include_seen": True}):
        hits, _ = model.rank(histories, 5, **more)
        _check(hits.items_BK, hits.scores_BK, size)
        found += [hits.items_BK.tobytes(), hits.scores_BK.tobytes()]
    if size:
        near = model.source.similar(size // 2, 3)
        _check(near.items_BK, near.scores_BK, size)
        found += [near.items_BK.tobytes(), json.dumps(model.items.ids([0, size - 1])).encode()]
    if model.attributes is not None:
        found += [model.attributes.allowed({"colour": ["red"]}).tobytes(), str(model.attributes.title(1)).encode()]
    return tuple(found)


def _check(items_BK: Any, scores_BK: Any, size: int) -> None:
    there = items_BK >= 0
    if items_BK.min(initial=-1) < -1 or items_BK.max(initial=-1) >= size:
        raise Finding("a row that is no item was answered")
    if np.isnan(scores_BK).any():
        raise Finding("a score that is no number was answered")
    if (np.where(there, scores_BK, -np.inf)[:, 1:] > scores_BK[:, :-1]).any():
        raise Finding("answers are out of order")
    for row in items_BK:
        if len(set(row[row >= 0].tolist())) != (row >= 0).sum():
            raise Finding("an item was answered twice")


class Battery:
    """Counts what became of hostile bundles, and collects what must not be."""

    def __init__(self, folder: Path) -> None:
        self.place = Workplace(folder)
        self.watch = Watch(folder)
        self.start()
        self.wrong: list[str] = []
        self.slowest = (0.0, "")

    def start(self) -> None:
        """Count from nothing."""
        self.counts = dict.fromkeys(("tried", "refused", "same", "sound", "refused when asked"), 0)

    def open(self, what: str, expected: tuple[bytes, ...] | None, *, must: str = "") -> None:
        """Open what lies in the workplace. expected: answers of the bundle before it was damaged, or of the one whose
        manifest it has now; None where it was sealed again, and may be a sound bundle of its own. must: refused, with
        these words in the message.
        """
        self.counts["tried"] += 1
        os.pwrite(1, f"{what[:200]:<200}\n".encode(), 0)
        self.watch.seen, begun = [], time.process_time()
        self.watch.on = True
        try:
            fate = self._fate(expected, must)
        except BaseException as error:
            self.watch.on = False
            where = traceback.extract_tb(error.__traceback__)[-1]
            at = f"{Path(where.filename).name}:{where.lineno}"
            self.wrong.append(f"{what}: {type(error).__name__}: {str(error)[:200]} ({at})")
            fate = "tried"
        self.watch.on = False
        seconds = time.process_time() - begun
        self.slowest = max(self.slowest, (seconds, what))
        if seconds > _SECONDS:
            self.wrong.append(f"{what}: took {seconds:.1f} s")
        self.wrong += [f"{what}: {event}" for event in sorted(set(self.watch.seen))]
        if fate != "tried":
            self.counts[fate] += 1

    def _fate(self, expected: tuple[bytes, ...] | None, must: str) -> str:
        try:
            model = Recommender.load(self.place.folder)
        except BundleError as error:
            text = str(error)
            if "\n" in text or len(text) > 700 or must not in text:
                raise Finding(f"said {text[:300]!r}") from error
            return "refused"
        except InputError:
            if (self.place.folder / MANIFEST).exists():  # without one, a folder is no bundle
                raise
            return "refused"
        if must:
            raise Finding("was not refused")
        try:
            answers = ask(model)
        except LeanrecError as error:
            if expected is not None:
                raise Finding(f"refused only when asked: {error}") from error
            return "refused when asked"
        if answers == expected:
            return "same"
        if expected is not None:
            raise Finding("other answers")
        return "sound"


def _search_without_some(model: Recommender) -> None:
    """What a bundle that names removed rows would have compiled, or read from Numba's cache, while it is watched."""
    index = getattr(model.source, "index", None)
    if isinstance(index, Index) and len(model.items):
        left = index.remove(np.array([0]))
        for batch in (1, 4):
            queries_BD = left.vectors.gather(np.zeros(batch, np.int64))
            left.search(queries_BD, 5, Jagged.from_rows([[0]] * batch))


def main(job: dict[str, Any]) -> None:
    bundles = {path.name: read_files(path) for path in sorted(Path(job["bundles"]).iterdir())}
    battery = Battery(Path(job["folder"]) / "b")
    known: dict[str, tuple[bytes, ...]] = {}
    for name, files in bundles.items():
        battery.place.put(files)
        for _ in range(2):  # compiles, imports
            model = Recommender.load(battery.place.folder)
            known[name] = ask(model)
        _search_without_some(model)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + _ROOM, used + _ROOM))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in job.get("classes", ()):
        kind, attack, words = CLASSES[name]
        battery.place.clear()
        battery.place.put(bundles[kind])
        attack(battery.place.folder)
        battery.open(name, known[kind] if name in SAFE else None, must="" if name in SAFE else words)
        battery.place.clear()
    by_hand = battery.counts
    battery.start()
    names = sorted(bundles)
    by_manifest = {files[MANIFEST]: known[name] for name, files in bundles.items()}
    for number in range(job.get("first", 0), job.get("first", 0) + job.get("count", 0)):
        rng = np.random.default_rng((job["seed"], number))
        name = names[number % len(names)]
        other = bundles[str(rng.choice(names))]
        change = damage if number // len(names) % 2 else forgery
        files = change(bundles[name], other, rng)
        battery.place.put(files)
        same = by_manifest.get(files.get(MANIFEST, b""), known[name]) if change is damage else None
        battery.open(f"{change.__name__} {number} of {name} (seed {job['seed']})", same)
        if len(battery.wrong) > 40:
            break
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss) << 10
    result = {
        "by hand": by_hand,
        "mutations": battery.counts,
        "slowest": battery.slowest,
        "grown": grown,
        "wrong": battery.wrong,
    }
    Path(job["folder"], "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
