"""`python -m benchmarks ID`: run one benchmark, print its table, add its row to docs/scoreboard.md."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from benchmarks.harness import finish


def main() -> int:
    ids = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*[0-9]*.py"))
    wanted = sys.argv[1].lower() if len(sys.argv) == 2 else ""
    if wanted not in ids:
        print(f"which benchmark? there are: {', '.join(i.upper() for i in ids)}", file=sys.stderr)
        return 2
    finish(importlib.import_module(f"benchmarks.{wanted}").run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
