"""The command `leanrec`: verbs are imported when they are asked for, and every failure ends in one sentence.

Exit codes: 0 done; 1 a fault of leanrec itself; 2 the input or the command line is wrong; 3 the machine lacks
something; 4 a promise could not be kept or decided; 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from cyclopts.exceptions import UnusedCliTokensError

from leanrec import __version__
from leanrec.core.console import say
from leanrec.core.errors import LeanrecError

__all__ = ["VERBS", "main", "run"]

VERBS = (
    "quickstart", "prepare", "train", "tune", "evaluate", "recommend", "add-items", "compress", "verify", "bench",
    "export", "serve", "audit", "report", "import", "models", "doctor",
)  # fmt: skip

_WRONG_PATH = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
_LACKING = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EROFS)

_BUDGET = ("--max-quality-loss", "--p99", "--memory", "--size", "--cost")

app = App(
    name="leanrec",
    help="Large recommenders, made lean and served fast, with numbers for what every step costs and buys.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
_ELSEWHERE = {"add-items": "add_items:add_items", "import": "importing:import_"}
"""Where a verb lives whose name Python cannot give to a module."""
for _number, _verb in enumerate(VERBS):
    app.command(f"leanrec.cli.{_ELSEWHERE.get(_verb, f'{_verb}:{_verb}')}", name=_verb, sort_key=_number)


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in app.help_flags:
        for verb in VERBS:
            app[verb]  # imported, so that the list of verbs can say what each does
    try:
        code = app(arguments, print_error=False, exit_on_error=False, verbose=False, result_action="return_value")
        return int(code or 0)
    except CycloptsError as error:
        say(f"leanrec: {_sentence(error)}")
        return 2
    except LeanrecError as error:
        say(f"leanrec: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        goes_on = arguments[:1] in (["train"], ["tune"]) or (
            arguments[:1] == ["compress"] and "--plan" not in arguments
        )
        say("leanrec: interrupted" + "; run it again with --resume to go on" * goes_on)
        return 130
    except MemoryError:
        say("leanrec: this machine has not enough memory for that: use less data, a smaller model or a larger machine")
        return 3
    except BrokenPipeError:
        _abandon_stdout()
        return 0
    except OSError as error:
        if error.errno in _WRONG_PATH and error.filename:
            say(f"leanrec: {error.filename}: {error.strerror}; choose another path")
            return 2
        if error.errno in _LACKING:
            say(
                f"leanrec: the machine lacks something: {error.strerror}"
                + f" ({error.filename})" * bool(error.filename)
            )
            return 3
        return _fault(error, arguments)
    except Exception as error:
        return _fault(error, arguments)


def main() -> None:
    """Entry point of the installed command."""
    # Threads that wait for work spin by default; where other programs want the cores too, training then takes several
    # times as long (docs/log.md). Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler talks about itself on standard error
    sys.exit(run())


def _is_search(arguments: Sequence[str]) -> bool:
    """Whether this is a `compress` with a budget."""
    options = {argument.partition("=")[0] for argument in arguments}
    return arguments[:1] == ["compress"] and not options.isdisjoint(_BUDGET)


def _sentence(error: CycloptsError) -> str:
    """What is wrong with the command line, in one line, and where to look it up."""
    if isinstance(error, UnusedCliTokensError):
        text = f"unexpected argument {' '.join(error.unused_tokens or [])!r}."
    else:
        text = " ".join(str(error).split())
    chain = " ".join(["leanrec", *(error.command_chain or [])])
    return f"{text[:1].lower()}{text[1:]} See: {chain} --help"


def _abandon_stdout() -> None:
    """The reader of standard output went away: keep Python from complaining when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fault(error: BaseException, arguments: Sequence[str]) -> int:
    from leanrec.cli.faults import write_report

    path = write_report(error, arguments)
    say(
        f"leanrec: a fault of leanrec itself ({type(error).__name__}: {error}); please attach {path} when you report it"
    )
    return 1
