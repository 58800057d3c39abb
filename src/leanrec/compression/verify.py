"""Is a bundle what it says, and does its certificate hold? Everything is computed again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from leanrec.compression.quality import Quality, judge
from leanrec.core.errors import BundleError, InputError, PromiseError
from leanrec.data.dataset import Dataset
from leanrec.evaluation.certificate import Certificate
from leanrec.index.bounded import BoundedIndex
from leanrec.index.coded import CodedIndex
from leanrec.kernels.topk import canonical_scores_reference
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["Verification", "verify"]

_QUERIES = 16


class _Promise(msgspec.Struct, frozen=True, kw_only=True):
    max_quality_loss: float
    kept_by: str


class _Issued(msgspec.Struct, frozen=True, kw_only=True):
    """What of a certificate is checked."""

    against: str
    data: str
    loss: Certificate
    promise: _Promise | None = None


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked and found true, one sentence each. certificate: as it was computed again, when it was."""

    id: str
    checks: list[str]
    certificate: Certificate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def __str__(self) -> str:
        return "\n".join([f"bundle {self.id}", *self.checks])


def verify(
    path: str | Path, against: str | Path | None = None, data: Dataset | str | Path | None = None
) -> Verification:
    """Check a bundle byte by byte and its index bound by bound; with `against` and `data`, its certificate too.

    BundleError when the bundle is damaged, PromiseError when a bound or the certificate does not hold, InputError when
    the certificate was issued for another bundle or other data.
    """
    if (against is None) != (data is None):
        raise InputError("a certificate is checked with both the bundle it was compared with and the data set")
    model = Recommender.load(path)
    checks = ["every byte is as it was written"]
    if isinstance(model.source, EmbeddingSource) and isinstance(model.source.index, BoundedIndex | CodedIndex):
        checks.append(_check_bounds(model.source.index))
    if against is None or data is None:
        return Verification(id=model.id, checks=checks)
    data = data if isinstance(data, Dataset) else Dataset.load(data)
    certificate = _check_certificate(model, Recommender.load(against), data)
    return Verification(id=model.id, checks=[*checks, certificate.verdict(certificate.upper)], certificate=certificate)


def _check_bounds(index: BoundedIndex | CodedIndex) -> str:
    """Every row's score lies within its bounds, for a few queries: rows of the table and directions at random."""
    items_ND = index.vectors.table()
    rng = np.random.default_rng(0)
    size, dim = items_ND.shape
    queries = rng.standard_normal((_QUERIES, dim)).astype(np.float32)
    queries[::2] = items_ND[rng.integers(0, size, len(queries[::2]))] if size else 0
    rows = np.arange(size)
    for query_D in queries:
        lower_N, upper_N = index.bounds(query_D)
        scores_N = canonical_scores_reference(items_ND, rows, query_D[None], np.zeros(size, np.int64))
        broken = np.flatnonzero((scores_N < lower_N) | (scores_N > upper_N))
        if len(broken):
            raise PromiseError(f"the bound of item row {broken[0]} is broken: the index was not built from this table")
    return f"the index {index.name!r} keeps its bounds: {_QUERIES * size:,} checked"


def _check_certificate(model: Recommender, before: Recommender, data: Dataset) -> Certificate:
    stored: Mapping[str, Any] | None = model.certificate
    if stored is None:
        raise InputError(f"bundle {model.id[:12]} holds no certificate: compress writes one")
    try:
        issued = msgspec.convert(stored, _Issued)
    except msgspec.ValidationError as error:
        raise BundleError(f"the certificate of bundle {model.id[:12]} is none ({error}): compress again") from error
    if issued.against != before.id:
        raise InputError(f"the certificate compares with bundle {issued.against[:12]}, not with {before.id[:12]}")
    if issued.data != data.fingerprint:
        raise InputError(f"the certificate was issued on another data set than {data.name}: prepare it as it was then")
    said = issued.loss
    quality = judge(before, model, data, metric=said.metric, alpha=said.alpha)
    found = quality.certificate
    if found.upper > said.upper or found.users != said.users:
        raise PromiseError(
            f"the certificate does not hold: it says a loss of at most {said.upper:.2%} on {said.users:,} users, "
            f"but {found.upper:.2%} on {found.users:,} users was found"
        )
    _check_promise(issued.promise, quality)
    return found


def _check_promise(promise: _Promise | None, quality: Quality) -> None:
    """Of a bundle made for a budget: its bound holds by the certificate, or by the same answers for everybody."""
    if promise is None:
        return
    bound = promise.max_quality_loss
    kept = quality.identical if promise.kept_by == "proof" else quality.certificate.holds(bound)
    if not kept:
        raise PromiseError(
            f"the bundle promises a loss of {quality.metric} of at most {bound:.2%}, kept by {promise.kept_by}, but "
            f"{quality.certificate.loss:.2%} was found on {quality.users:,} users, at most "
            f"{quality.certificate.upper:.2%}"
        )
