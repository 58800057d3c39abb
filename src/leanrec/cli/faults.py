"""The report of a fault of leanrec itself: what a maintainer needs, in one file."""

from __future__ import annotations

import platform
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from leanrec.jobs.doctor import package_versions

__all__ = ["write_report"]


def write_report(error: BaseException, arguments: Sequence[str]) -> Path:
    """Write the command, versions and traceback to a fresh file among the temporary ones; its path."""
    lines = [
        f"leanrec {' '.join(arguments)}",
        f"{platform.platform()}, Python {platform.python_version()}",
        *(f"{name} {version or 'not installed'}" for name, version in package_versions().items()),
        "",
        *traceback.format_exception(error),
    ]
    with tempfile.NamedTemporaryFile("w", prefix="leanrec-report-", suffix=".txt", delete=False) as file:
        file.write("\n".join(lines))
    return Path(file.name)
