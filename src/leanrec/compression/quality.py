"""What a step cost: the metric before and after on users that nothing was tuned on, paired and certified."""

from __future__ import annotations

from typing import Any

import msgspec

from leanrec.data.dataset import Dataset
from leanrec.evaluation.certificate import Certificate, certify_loss
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.metrics import parse_metric
from leanrec.evaluation.paired import Paired
from leanrec.runtime.recommender import Recommender

__all__ = ["Quality", "judge"]

_LOSSES = (0.01, 0.001)


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of both on the users that certify. identical: every one of them got the same value from both."""

    metric: str
    users: int
    before: float
    after: float
    identical: bool
    include_seen: bool
    paired: Paired
    certificate: Certificate

    def sentences(self) -> list[str]:
        """For a person: the pair, and what is certified, or how many users would decide."""
        return [str(self.paired), self.certificate.verdict(_LOSSES[0])]

    def to_manifest(self, against: str, data: Dataset) -> dict[str, Any]:
        """Plain values from which `verify` computes the certificate again."""
        return {
            "against": against,
            "data": data.fingerprint,
            "on": "test",
            "users": "certify",
            "include_seen": self.include_seen,
            "loss": msgspec.to_builtins(self.certificate),
        }


def judge(before: Recommender, after: Recommender, data: Dataset, *, metric: str, alpha: float) -> Quality:
    """Ask both for the same users; InputError when there are none."""
    include_seen = data.protocol.repeats
    results = evaluate(
        {"before": before, "after": after}, data, on="test", k=parse_metric(metric).k, users="certify",
        include_seen=include_seen,
    )  # fmt: skip
    old, new = results["before"].values[metric], results["after"].values[metric]
    return Quality(
        metric=metric,
        users=len(old),
        before=float(old.mean()),
        after=float(new.mean()),
        identical=bool((old == new).all()),
        include_seen=include_seen,
        paired=results.paired("before", [metric])[0],
        certificate=certify_loss(old, new, metric=metric, alpha=alpha),
    )
