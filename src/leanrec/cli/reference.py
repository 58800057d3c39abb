"""The reference of the command line, from the commands themselves: `python -m leanrec.cli.reference > docs/cli.md`."""

from __future__ import annotations

from leanrec.cli.main import VERBS, app

__all__ = ["reference"]

_EXIT_CODES = """\
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | a fault of leanrec itself; a report to attach is written |
| 2 | the input or the command line is wrong |
| 3 | the machine lacks something: disk, memory, a free port, an extra |
| 4 | a promise could not be kept or decided |
| 130 | interrupted |

For 2, 3 and 4 standard error ends with one sentence that names the thing, what is wrong with it and the remedy.
"""


def reference() -> str:
    """Markdown of every verb with its options, and the exit codes."""
    for verb in VERBS:
        app[verb]
    return f"{app.generate_docs(heading_level=1).rstrip()}\n\n{_EXIT_CODES}"


if __name__ == "__main__":
    print(reference(), end="")
