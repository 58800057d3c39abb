"""What a bundle keeps so that items added later get vectors from their attributes, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

__all__ = ["Newcomers"]


@dataclass(frozen=True, slots=True)
class Newcomers:
    """Never read by serving; `Model.add_items` of the model that left it there knows what it means.

    config: plain values for the manifest. tensors: the file `newcomers.safetensors`.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, npt.NDArray[Any]]
