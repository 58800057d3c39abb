"""What this machine has, what is missing, and the command that helps."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from leanrec.core.machine import cpu_model, free_memory, total_memory

__all__ = ["Check", "Diagnosis", "diagnose", "package_versions"]

_CORE = (
    "leanrec", "numpy", "polars", "numba", "safetensors", "msgspec", "cyclopts", "rich", "granian", "prometheus-client",
)  # fmt: skip
_EXTRAS = {"train": ("torch", "tensorboard")}
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16")
_MIN_MEMORY, _MIN_DISK = 2 << 30, 2 << 30


class Check(msgspec.Struct, frozen=True):
    """One thing looked at: whether it is fine, what was seen, and what to do when it is not."""

    name: str
    fine: bool
    seen: str
    remedy: str = ""
    required: bool = True


class Diagnosis(msgspec.Struct, frozen=True):
    """Everything `leanrec doctor` says."""

    checks: list[Check]
    facts: dict[str, Any]

    @property
    def healthy(self) -> bool:
        return all(check.fine for check in self.checks if check.required)


def package_versions() -> dict[str, str]:
    """Distribution -> installed version ('' when absent), for the core and every extra."""
    return {name: _version(name) for name in (*_CORE, *(p for packages in _EXTRAS.values() for p in packages))}


def diagnose(folder: Path = Path()) -> Diagnosis:
    """Look at this machine; nothing is changed. folder: where data and runs are to live."""
    memory, available = total_memory(), free_memory()
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "cpu_features": cpu_features(),
        "memory_bytes": memory,
        "memory_available_bytes": available,
        "packages": package_versions(),
    }
    checks = [_package(name) for name in _CORE]
    checks += [_extra(extra, packages) for extra, packages in _EXTRAS.items()]
    checks += [_cache(), _free_disk(folder), _free_memory(available)]
    return Diagnosis(checks, facts)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _package(name: str) -> Check:
    version = _version(name)
    return Check(name, bool(version), version or "not installed", "" if version else "run  pip install leanrec")


def _extra(extra: str, packages: tuple[str, ...]) -> Check:
    versions = {name: _version(name) for name in packages}
    fine = all(versions.values())
    seen = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
    return Check(f"extra [{extra}]", fine, seen, "" if fine else f"run  pip install 'leanrec[{extra}]'", required=False)


def _cache() -> Check:
    """Compiled loops are kept beside their source, else where NUMBA_CACHE_DIR or the user's cache folder says."""
    beside = Path(__file__).parents[1] / "kernels" / "__pycache__"
    user = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "numba"
    places = [Path(os.environ["NUMBA_CACHE_DIR"])] if "NUMBA_CACHE_DIR" in os.environ else [beside, user]
    usable = [place for place in places if _writable(place)]
    remedy = "" if usable else "set NUMBA_CACHE_DIR to a folder that can be written, or every start compiles again"
    return Check("cache of compiled loops", bool(usable), str((usable or places)[0]), remedy, required=False)


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _free_disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    fine = free >= _MIN_DISK
    return Check("free disk", fine, f"{free / 2**30:.1f} GiB", "" if fine else "free some space", required=False)


def _free_memory(available: int) -> Check:
    fine = available >= _MIN_MEMORY
    remedy = "" if fine else "close other programs, or use a larger machine"
    return Check("free memory", fine, f"{available / 2**30:.1f} GiB", remedy, required=False)


def cpu_features() -> list[str]:
    """Of the instruction sets that leanrec's paths profit from, those this processor has."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return [flag for flag in _CPU_FLAGS if flag in flags]


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
