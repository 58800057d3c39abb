"""Fetching one file: into a cache, resumed when cut, checked, and never half there."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from leanrec.core.console import Progress
from leanrec.core.errors import InputError, MachineError
from leanrec.core.files import atomic_write, disk_errors

__all__ = ["cache_folder", "fetch", "sha256_of"]

_BLOCK = 1 << 20
_ATTEMPTS = 3


def cache_folder() -> Path:
    """LEANREC_CACHE, else `leanrec` in the user's cache folder (XDG_CACHE_HOME, ~/.cache)."""
    own = os.environ.get("LEANREC_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leanrec"


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, target: Path, *, checksum: str | None = None, timeout: float = 30.0) -> Path:
    """`target`, downloaded from `url` unless it is there already.

    checksum: "sha256:..." or "md5:..." as published; when None, that of the first download is kept beside the file and
    holds from then on. A download that was cut is resumed. MachineError when the host does not answer or the disk is
    full; InputError when the content is not what the checksum says.
    """
    kept = target.with_name(target.name + ".sha256")
    expected = checksum or (f"sha256:{kept.read_text().strip()}" if kept.exists() else None)
    if target.exists() and (expected is None or _digest(target, expected) == expected):
        return target
    part = target.with_name(target.name + ".part")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, timeout)
        if expected is not None and (found := _digest(part, expected)) != expected:
            part.unlink()
            part.with_name(part.name + ".version").unlink(missing_ok=True)
            raise InputError(
                f"{url} has the checksum {found}, but {expected} was expected: it has changed or was damaged on the "
                f"way; try again, or remove {kept} to accept a new version"
            )
        if checksum is None and not kept.exists():
            atomic_write(kept, sha256_of(part).encode())
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
        part.with_name(part.name + ".version").unlink(missing_ok=True)
    return target


def _digest(path: Path, expected: str) -> str:
    kind = expected.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _download(url: str, part: Path, timeout: float) -> None:
    """Fill `part`; a connection that breaks is taken up again where it broke, a few times."""
    problem: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            _attempt(url, part, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the part is longer than the file: it is from another version
                part.unlink(missing_ok=True)
                problem = error
                continue
            raise MachineError(f"{url} answers {error.code} {error.reason}: see whether it has moved") from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = error
            continue
        return
    raise MachineError(
        f"{url} cannot be downloaded ({_cause(problem)}): check the network and run again, what arrived is kept"
    ) from problem


def _attempt(url: str, part: Path, timeout: float) -> None:
    version = part.with_name(part.name + ".version")
    done = part.stat().st_size if part.exists() and version.exists() else 0
    # If-Range: should the file have changed since, the server sends all of the new one.
    headers = {"Range": f"bytes={done}-", "If-Range": version.read_text()} if done else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        resumed = response.status == 206 and _starts_at(response.headers.get("Content-Range"), done)
        _keep_version(response.headers.get("ETag") or response.headers.get("Last-Modified"), version)
        length = response.headers.get("Content-Length")
        wanted = None if length is None else int(length)
        done = done if resumed else 0
        total = None if wanted is None else done + wanted
        with open(part, "ab" if resumed else "wb") as file, Progress(f"download {part.stem}", total) as progress:
            progress.done = done
            received = 0
            while block := response.read(_BLOCK):
                file.write(block)
                received += len(block)
                progress.advance(len(block))
        if wanted is not None and received < wanted:
            raise http.client.IncompleteRead(b"", wanted - received)


def _keep_version(named: str | None, version: Path) -> None:
    """What the server calls this version of the file; a part of an unnamed version cannot be resumed."""
    if named and not named.startswith("W/"):
        version.write_text(named)
    else:
        version.unlink(missing_ok=True)


def _starts_at(content_range: str | None, done: int) -> bool:
    return bool(content_range) and str(content_range).startswith(f"bytes {done}-")


def _cause(problem: Exception | None) -> str:
    if isinstance(problem, http.client.IncompleteRead):
        return "the connection was cut"
    reason = getattr(problem, "reason", None) or problem
    return str(getattr(reason, "strerror", None) or reason or type(problem).__name__)
