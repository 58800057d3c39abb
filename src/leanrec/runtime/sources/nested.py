"""Sources within a source, in its configuration and its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.errors import BundleError, ConfigError
from leanrec.runtime.base import Parts, Source

__all__ = ["load_nested", "nested_config", "nested_parts"]


def nested_config(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Plain values of each source."""
    return [{"kind": one.kind, "name": one.name, "config": one.config()} for one in sources]


def nested_parts(sources: Sequence[Source]) -> dict[str, Mapping[str, npt.NDArray[np.generic]]]:
    """The parts of source n under stems that begin with `n-`."""
    return {
        f"{number}-{stem}": tensors for number, source in enumerate(sources) for stem, tensors in source.parts().items()
    }


def load_nested(configs: Sequence[Mapping[str, Any]], parts: Parts) -> list[Source]:
    """The sources as they were stored; ValueError when there is none, or when they are about different items."""
    from leanrec.runtime.sources import SOURCES

    sources = []
    for number, one in enumerate(configs):
        prefix = f"{number}-"
        own = {stem.removeprefix(prefix): part for stem, part in parts.items() if stem.startswith(prefix)}
        try:
            sources.append(SOURCES[one["kind"]].load(one["name"], one["config"], own))
        except ConfigError as error:
            raise BundleError(f"{error}: update leanrec, or write the bundle again") from error
    sizes = {source.num_items for source in sources}
    if len(sizes) != 1:
        raise ValueError(f"{len(sources)} sources over {sorted(sizes)} items")
    return sources
