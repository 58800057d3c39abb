"""Training on who has what: batches of pairs or whole users, a table of both, objectives over gathered vectors."""

from leanrec.training.pairs.batches import PairLoader, UserLoader
from leanrec.training.pairs.task import PairTask

__all__ = ["PairLoader", "PairTask", "UserLoader"]
