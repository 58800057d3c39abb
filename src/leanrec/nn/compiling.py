"""torch.compile for a network in place: fewer passes over memory, after a minute of compilation."""

from __future__ import annotations

import os
import shutil

from torch import nn

from leanrec.core.errors import MachineError

__all__ = ["compile_network", "has_compiler"]


def has_compiler() -> bool:
    """Whether the C++ compiler is there that torch.compile hands its loops to."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))


def compile_network(net: nn.Module) -> None:
    """Compile `net` for any number of rows; names of its arrays stay. A MachineError when there is no compiler."""
    if not has_compiler():
        raise MachineError(
            "compile=true needs a C++ compiler, and none of c++, g++ and clang++ is on the PATH: install one "
            "(apt-get install g++), or leave compile out"
        )
    net.compile(dynamic=True)
