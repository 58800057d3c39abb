"""Every error leanrec raises on purpose, and the exit code the command line turns it into.

A message is one sentence that names the thing (file, key, row, value), what is wrong with it and the remedy.
Anything else that escapes is a fault of leanrec itself (exit code 1).
"""

__all__ = [
    "BundleError",
    "ConfigError",
    "InputError",
    "LeanrecError",
    "MachineError",
    "MissingExtra",
    "PromiseError",
    "StorageError",
]


class LeanrecError(Exception):
    """Root of the tree; never raised itself."""

    exit_code = 1


class InputError(LeanrecError, ValueError):
    """The data or the command line is wrong: an absent file, a missing column, nothing left after cleaning."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration key or value is unknown or impossible."""


class BundleError(InputError):
    """A bundle is incomplete, edited, of another format version, or hostile."""


class MachineError(LeanrecError):
    """The machine lacks something: disk, memory, a free port."""

    exit_code = 3


class StorageError(MachineError):
    """Something could not be made durable, or could not be read back; nothing of it was acknowledged."""


class MissingExtra(MachineError):
    """An optional dependency is not installed; the message holds the command that installs it."""

    def __init__(self, extra: str, package: str, purpose: str) -> None:
        self.extra, self.package = extra, package
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: run  pip install 'leanrec[{extra}]'"
        )


class PromiseError(LeanrecError):
    """A promise (a budget, a certificate) could not be kept, or could not be decided with the data at hand."""

    exit_code = 4
