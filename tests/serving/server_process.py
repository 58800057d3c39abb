"""`leanrec serve` without the command line; says at the end which heavy packages were loaded."""

from __future__ import annotations

import sys

from leanrec.core.errors import LeanrecError
from leanrec.serving.server import serve

HEAVY = ("torch", "polars", "pandas", "rich", "scipy", "cyclopts", "prometheus_client")


def main(bundle: str, port: str = "0", config: str | None = None) -> int:
    try:
        serve(bundle, port=int(port), config=config)
    except LeanrecError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(" ".join(name for name in HEAVY if name in sys.modules))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
