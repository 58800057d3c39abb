"""What teachers say of the events a student learns from: shares of a few items at each of them.

Ranking distillation (arXiv:1809.07428) with soft labels: at an event, teachers who know the history up to it name their
best items, each with a share; the student's softmax over those items and the batch's sampled negatives is drawn to the
shares, beside its usual loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Soft", "SoftLabels", "soft_loss"]

I32 = npt.NDArray[np.int32]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Soft:
    """Of a batch's predictions: items_TM, the teachers' items, and share_TM, 0 for places without one.

    A prediction that no teacher was asked about has only zeros.
    """

    items_TM: I32
    share_TM: F32

    def take(self, kept_T: npt.NDArray[np.bool_]) -> Soft:
        """Of some of the predictions."""
        return Soft(self.items_TM[kept_T], self.share_TM[kept_T])


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """For P of all E training events: row_E, which of the P an event is, -1 for none; items_PM and share_PM."""

    row_E: I32
    items_PM: I32
    share_PM: F32

    def at(self, event_T: npt.NDArray[np.int64]) -> Soft:
        """Of predictions made after these events."""
        row_T = self.row_E[event_T]
        share_TM = np.where(row_T[:, None] >= 0, self.share_PM[row_T], np.float32(0))
        return Soft(np.ascontiguousarray(self.items_PM[row_T]), share_TM)


def soft_loss(
    hidden_TD: Tensor, leaf_UD: Tensor, items_TM: Tensor, share_TM: Tensor, negatives_n: Tensor, expected_n: Tensor
) -> Tensor:
    """Mean over the predictions with shares of -sum share log p, p among a prediction's items and the negatives.

    items_TM, negatives_n: int64 places in the leaf. expected_n: the log of how often each negative is expected among
    them, taken off as in the sampled softmax. A negative that is one of the items is left out.
    """
    asked_T = share_TM.sum(1) > 0
    if not bool(asked_T.any()):
        return hidden_TD.sum() * 0
    hidden_TD, items_TM, share_TM = hidden_TD[asked_T].float(), items_TM[asked_T], share_TM[asked_T]
    own_TM = torch.einsum("td,tmd->tm", hidden_TD, leaf_UD[items_TM].float())
    own_TM = own_TM.masked_fill(share_TM == 0, -torch.inf)
    total_T = torch.logsumexp(own_TM, 1)
    if len(negatives_n):
        others_Tn = hidden_TD @ leaf_UD[negatives_n].float().T - expected_n
        known_Tn = (items_TM[:, :, None] == negatives_n).any(1)
        total_T = torch.logaddexp(total_T, torch.logsumexp(others_Tn.masked_fill(known_Tn, -torch.inf), 1))
    log_TM = torch.where(share_TM > 0, own_TM - total_T[:, None], 0.0)
    return -(share_TM * log_TM).sum(1).mean()
