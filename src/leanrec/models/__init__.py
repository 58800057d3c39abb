"""One file a model: its configuration and how it wires nn/ together. `MODELS` names them all."""

from typing import Any

from leanrec.core.registry import Entry, Registry
from leanrec.models.base import Model

__all__ = ["MODELS", "Model"]

MODELS: Registry[Model[Any]] = Registry(
    "model",
    {
        "popular": Entry("leanrec.models.popular:Popular", "most interactions of all time"),
        "popular-recent": Entry("leanrec.models.popular:PopularRecent", "most interactions of the last days"),
        "item-knn": Entry("leanrec.models.item_knn:ItemKNN", "items that share users with the history"),
        "user-knn": Entry("leanrec.models.user_knn:UserKNN", "what the users most like the history had"),
        "ease": Entry("leanrec.models.ease:EASE", "every item predicted from all others, in closed form"),
        "slim": Entry("leanrec.models.slim:SLIM", "every item predicted from those most like it, for large catalogues"),
        "graph-filter": Entry(
            "leanrec.models.graph_filter:GraphFilter", "items that share users, what everybody has held down"
        ),
        "content": Entry("leanrec.models.content:Content", "items with attributes like those of the history"),
        "bpr-mf": Entry("leanrec.models.bpr_mf:BPRMF", "factors by pairwise ranking", "train"),
        "simplex": Entry("leanrec.models.simplex:SimpleX", "cosines with many negatives, users as histories", "train"),
        "lightgcn": Entry("leanrec.models.lightgcn:LightGCN", "vectors averaged over the graph", "train"),
        "ultragcn": Entry("leanrec.models.ultragcn:UltraGCN", "graph convolution as weights of a loss", "train"),
        "mf": Entry("leanrec.models.mf:MF", "factors and biases of explicit ratings, ranked by predicted rating"),
        "als": Entry("leanrec.models.als:ALS", "factors of implicit feedback by alternating least squares"),
        "sasrec": Entry("leanrec.models.sasrec:SASRec", "causal transformer over the history", "train"),
        "esasrec": Entry("leanrec.models.esasrec:ESASRec", "LiGR transformer with sampled softmax", "train"),
        "gsasrec": Entry("leanrec.models.gsasrec:GSASRec", "SASRec with a calibrated binary loss", "train"),
        "bert4rec": Entry("leanrec.models.bert4rec:BERT4Rec", "bidirectional transformer, hidden events", "train"),
        "gru4rec": Entry("leanrec.models.gru4rec:GRU4Rec", "gated recurrent units over the history", "train"),
        "caser": Entry("leanrec.models.caser:Caser", "convolutions over the last few items", "train"),
        "hstu": Entry("leanrec.models.hstu:HSTU", "pointwise attention with relative position and time", "train"),
        "text-encoder": Entry(
            "leanrec.models.text_encoder:TextEncoder", "items as a language model reads them, new ones too", "text"
        ),
        "two-tower": Entry(
            "leanrec.models.two_tower:TwoTower", "towers of users and items over ids, histories and attributes", "train"
        ),
        "hybrid": Entry("leanrec.models.hybrid:Hybrid", "several models merged, re-ranked, with fallbacks"),
        "linear": Entry("leanrec.models.linear:Linear", "squared error on the label, ridge"),
        "logistic": Entry("leanrec.models.logistic:Logistic", "logistic regression, online, L1 and L2 (FTRL)"),
        "fm": Entry("leanrec.models.fm:FM", "factorisation machine", "train"),
        "dnn": Entry("leanrec.models.dnn:DNN", "hidden layers over embedded fields", "train"),
        "wide-deep": Entry("leanrec.models.dnn:WideDeep", "linear in values and crosses, plus hidden layers", "train"),
        "deepfm": Entry("leanrec.models.deepfm:DeepFM", "factorisation machine plus hidden layers", "train"),
        "dcnv2": Entry("leanrec.models.dcnv2:DCNv2", "cross layers, full or a mixture of low ranks", "train"),
        "dlrm": Entry("leanrec.models.dlrm:DLRM", "inner products of fields, then layers", "train"),
        "finalnet": Entry("leanrec.models.finalnet:FinalNet", "layers that multiply two linear maps", "train"),
        "din": Entry("leanrec.models.din:DIN", "attention of the item over the history", "train"),
        "multi-task": Entry("leanrec.models.multi_task:MultiTask", "click and conversion at once", "train"),
        "gbdt": Entry("leanrec.models.gbdt:GBDT", "boosted trees (LightGBM), served without it", "gbdt"),
    },
)


def __getattr__(name: str) -> Any:
    """The models as classes too: `models.ESASRec` is `MODELS["esasrec"]`."""
    classes = {entry.target.partition(":")[2]: key for key, entry in MODELS.entries.items()}
    if name not in classes:
        raise AttributeError(f"leanrec.models has no {name!r}; there are: {', '.join(classes)}")
    return MODELS[classes[name]]
