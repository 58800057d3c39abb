"""Whether a bundle is what it says it is: every byte, its parts, and the certificate of what compression cost."""

from __future__ import annotations

from typing import Any

import msgspec

from leanrec.compression.quality import judge
from leanrec.core.config import Config
from leanrec.core.console import step
from leanrec.core.errors import InputError, PromiseError
from leanrec.data.dataset import Dataset
from leanrec.runtime.bundle import open_bundle, resolve_bundle
from leanrec.runtime.recommender import Recommender

__all__ = ["Verified", "VerifyJob", "verify_bundle"]


class VerifyJob(Config, frozen=True, kw_only=True):
    """What `leanrec verify` is told; with `against` and `data`, the certificate is computed again."""

    bundle: str
    against: str | None = None
    data: str | None = None


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was found to hold. sentences: for a person, one a line."""

    bundle: str
    id: str
    files: int
    bytes: int
    certificate: dict[str, Any] | None
    recomputed: dict[str, Any] | None
    sentences: list[str]


def verify_bundle(job: VerifyJob) -> Verified:
    """BundleError when a byte or part is wrong, PromiseError when the certificate is not what comes out again."""
    if (job.against is None) != (job.data is None):
        raise InputError("--against BUNDLE and --data DIR go together: both are needed to compute a certificate again")
    folder = resolve_bundle(job.bundle)
    bundle = open_bundle(folder)
    model = Recommender.load(folder)
    entries = bundle.manifest.files.values()
    size = sum(entry.size for entry in entries)
    said = [f"{folder}: {len(entries)} files of {size:,} bytes are as they were written, id {bundle.id}"]
    recomputed = None
    if job.against is not None and job.data is not None:
        recomputed, verdict = _certify_again(Recommender.load(job.against), model, Dataset.load(job.data))
        said.append(verdict)
    elif model.certificate is not None:
        said.append("it holds a certificate: give --against and --data to compute that again")
    return Verified(
        bundle=str(folder), id=bundle.id, files=len(entries), bytes=size, recomputed=recomputed, sentences=said,
        certificate=None if model.certificate is None else dict(model.certificate),
    )  # fmt: skip


def _certify_again(before: Recommender, after: Recommender, data: Dataset) -> tuple[dict[str, Any], str]:
    """The certificate as it comes out now; it has to be the stored one, if there is one."""
    stored = after.certificate or {}
    for what, name, found in (("against", "the bundle", before.id), ("data", "the data set", data.fingerprint)):
        if stored and stored[what] != found:
            raise InputError(f"the certificate was made with {name} {stored[what][:12]}, this is {found[:12]}")
    metric, alpha = stored.get("metric", "ndcg@10"), stored.get("alpha", 0.05)
    with step(f"judging {metric} of both again"):
        quality = judge(before, after, data, metric=metric, alpha=alpha)
    recomputed: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(quality.to_manifest(before.id, data)))
    for key, value in stored.items():
        if recomputed.get(key) != value:
            raise PromiseError(f"the certificate says {key} {value!r}, computed again it is {recomputed.get(key)!r}")
    same = "the certificate came out the same: " if stored else "no certificate is stored; now: "
    return recomputed, same + quality.sentences()[-1]
