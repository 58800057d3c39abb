"""Top-k over a catalogue: one contract (`base.Index`), one file per way, chosen by name from `INDEXES`."""

from leanrec.core.registry import Entry, Registry
from leanrec.index.base import Index

__all__ = ["INDEXES", "Index"]

INDEXES: Registry[Index] = Registry(
    "index",
    {
        "exact": Entry("leanrec.index.exact:ExactIndex", "full precision, blocks of a matrix product"),
        "coded": Entry(
            "leanrec.index.coded:CodedIndex", "vectors of any kind scanned as they are, then exact rescoring"
        ),
        "coded-pruned": Entry(
            "leanrec.index.pruned:PrunedIndex", "product codes by falling sub-id while items can win"
        ),
        "certified-int8": Entry(
            "leanrec.index.certified:CertifiedInt8Index", "int8 scan with error bounds, then exact rescoring"
        ),
        "certified-int4": Entry(
            "leanrec.index.planes:CertifiedInt4Index",
            "int4 scan with error bounds, a second int4 plane where needed, then exact rescoring",
        ),
        "ivf-int4": Entry("leanrec.index.ivf:IvfIndex", "the lists nearest to the query, int4 scan, exact rescoring"),
        "faiss-hnsw": Entry("leanrec.index.faiss_hnsw:FaissHnswIndex", "a graph of near neighbours", "ann"),
        "faiss-ivf": Entry("leanrec.index.faiss_ivf:FaissIvfIndex", "the lists nearest to a query, in float32", "ann"),
        "faiss-pq": Entry("leanrec.index.faiss_pq:FaissPqIndex", "product codes of 4 bits, exact rescoring", "ann"),
    },
)
