"""Item vectors as they are kept and served: one contract (`base.ItemVectors`), one file per way, by `kind`.

Every way is read through `gather`, which gives float32 rows; only `float32` holds them as they are. What a row decodes
to *is* the item's vector: scores are defined by it, so every exact index over the same vectors answers the same.
"""

from leanrec.core.registry import Entry, Registry
from leanrec.index.vectors.base import ItemVectors, Weighting, scores_of
from leanrec.index.vectors.plain import Float32Vectors, vectors_of

__all__ = ["VECTORS", "Float32Vectors", "ItemVectors", "Weighting", "scores_of", "vectors_of"]

VECTORS: Registry[ItemVectors] = Registry(
    "kind of item vectors",
    {
        "float32": Entry("leanrec.index.vectors.plain:Float32Vectors", "as trained, 4 bytes a value"),
        "bfloat16": Entry("leanrec.index.vectors.bfloat16:Bfloat16Vectors", "the upper half of each float32"),
        "int8": Entry("leanrec.index.vectors.rowwise:Int8Vectors", "8 bits a value, a scale and an offset a row"),
        "int6": Entry("leanrec.index.vectors.rowwise:Int6Vectors", "6 bits a value, a scale and an offset a row"),
        "int5": Entry("leanrec.index.vectors.rowwise:Int5Vectors", "5 bits a value, a scale and an offset a row"),
        "int4": Entry("leanrec.index.vectors.rowwise:Int4Vectors", "4 bits a value, a scale and an offset a row"),
        "int2": Entry("leanrec.index.vectors.rowwise:Int2Vectors", "2 bits a value, a scale and an offset a row"),
        "product": Entry("leanrec.index.vectors.product:ProductVectors", "M bytes a row that name pieces of vectors"),
        "low-rank": Entry("leanrec.index.vectors.low_rank:LowRankVectors", "factors of any kind in a shared basis"),
        "shared": Entry("leanrec.index.vectors.shared:SharedVectors", "rare items share the vector of their cluster"),
    },
)
