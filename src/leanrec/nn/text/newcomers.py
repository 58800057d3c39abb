"""Vectors of items that are added after training, from their texts: what a bundle keeps for it, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from leanrec.core.config import build, to_dict
from leanrec.core.errors import InputError
from leanrec.nn.text.base import TextOptions
from leanrec.nn.text.fixed import text_vectors
from leanrec.nn.text.loading import encoder_folder, fingerprint

__all__ = ["encoded", "projected", "text_facts"]

_PROJECTION = ("weight", "bias", "mean_E", "scale")

F32 = npt.NDArray[np.float32]


def text_facts(options: TextOptions) -> dict[str, Any]:
    """Plain values: the language model with its fingerprint, and how texts are made and read."""
    asked = {name: value for name, value in to_dict(options).items() if name in TextOptions.__struct_fields__}
    return {"sha256": fingerprint(encoder_folder(options.encoder)), **asked}


def encoded(texts: Sequence[str], facts: Mapping[str, Any]) -> F32:
    """(M, E) vectors of texts by the language model of training; InputError when another stands in its place now."""
    options = build(TextOptions, {name: facts[name] for name in TextOptions.__struct_fields__}, where="newcomers")
    if fingerprint(encoder_folder(options.encoder)) != facts["sha256"]:
        raise InputError(
            f"{options.encoder} is not the language model that this recommender was trained with: put that one in its "
            "place, or train again"
        )
    return text_vectors(texts, options)


def projected(texts: Sequence[str], facts: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> F32:
    """(M, D) what `Projection` of these tensors makes of the texts; of length 1 where facts say `unit`."""
    weight_DE, bias_D, mean_E, scale = (np.asarray(tensors[name], np.float32) for name in _PROJECTION)
    vectors_MD: F32 = np.asarray(((encoded(texts, facts) - mean_E) * scale) @ weight_DE.T + bias_D, np.float32)
    if facts["unit"]:
        lengths_M1 = np.maximum(np.linalg.norm(vectors_MD, axis=1, keepdims=True), 1e-12)
        vectors_MD = (vectors_MD / lengths_M1).astype(np.float32)
    return vectors_MD
