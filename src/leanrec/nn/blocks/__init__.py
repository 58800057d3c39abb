"""Networks over packed sequences (R, L, D), one file a kind: item vectors in, one vector a slot out."""

from leanrec.nn.blocks.attention import Attention, Seen
from leanrec.nn.blocks.ligr import LiGRBlock
from leanrec.nn.blocks.sasrec import SASRecBlock
from leanrec.nn.blocks.transformer import BLOCKS, Positions, Transformer

__all__ = ["BLOCKS", "Attention", "LiGRBlock", "Positions", "SASRecBlock", "Seen", "Transformer"]
