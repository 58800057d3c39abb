"""Networks over packed sequences (R, L, D), one file a kind: item vectors in, one vector a slot out."""

from leanrec.nn.blocks.attention import Attention, Seen
from leanrec.nn.blocks.caser import Caser
from leanrec.nn.blocks.gru import GRU
from leanrec.nn.blocks.hstu import HSTU
from leanrec.nn.blocks.ligr import LiGRBlock
from leanrec.nn.blocks.sasrec import SASRecBlock
from leanrec.nn.blocks.transformer import BLOCKS, Positions, Transformer

__all__ = [
    "BLOCKS",
    "GRU",
    "HSTU",
    "Attention",
    "Caser",
    "LiGRBlock",
    "Positions",
    "SASRecBlock",
    "Seen",
    "Transformer",
]
