"""leanrec: large recommenders, made lean and served fast, with numbers for what every step costs and buys.

`import leanrec` loads nothing heavy: every name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from leanrec.core.errors import (
    BundleError,
    ConfigError,
    InputError,
    LeanrecError,
    MachineError,
    MissingExtra,
    PromiseError,
)

if TYPE_CHECKING:
    from leanrec import models
    from leanrec.compression.budget import Budget
    from leanrec.compression.compress import compress
    from leanrec.compression.verify import verify
    from leanrec.core.nouns import Ranking, Request
    from leanrec.data.dataset import Dataset
    from leanrec.data.prepare import prepare
    from leanrec.evaluation.audit import audit
    from leanrec.evaluation.evaluate import evaluate
    from leanrec.runtime.recommender import Recommender

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "BundleError",
    "ConfigError",
    "Dataset",
    "InputError",
    "LeanrecError",
    "MachineError",
    "MissingExtra",
    "PromiseError",
    "Ranking",
    "Recommender",
    "Request",
    "__version__",
    "audit",
    "compress",
    "evaluate",
    "load",
    "models",
    "prepare",
    "verify",
]

_LAZY = {
    "Budget": "leanrec.compression.budget:Budget",
    "Dataset": "leanrec.data.dataset:Dataset",
    "Ranking": "leanrec.core.nouns:Ranking",
    "Recommender": "leanrec.runtime.recommender:Recommender",
    "Request": "leanrec.core.nouns:Request",
    "audit": "leanrec.evaluation.audit:audit",
    "compress": "leanrec.compression.compress:compress",
    "evaluate": "leanrec.evaluation.evaluate:evaluate",
    "models": "leanrec.models:",
    "prepare": "leanrec.data.prepare:prepare",
    "verify": "leanrec.compression.verify:verify",
}


def load(path: str) -> Recommender:
    """The recommender in a bundle or a run folder."""
    from leanrec.runtime.recommender import Recommender

    return Recommender.load(path)


def __getattr__(name: str) -> Any:
    target = _LAZY.get(name)
    if target is None:
        raise AttributeError(f"module 'leanrec' has no attribute {name!r}; it has: {', '.join(__all__)}")
    module, _, attribute = target.partition(":")
    found = importlib.import_module(module)
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
