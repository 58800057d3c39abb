"""A small recommender of every kind that a bundle can hold, from the registries themselves.

A kind that has no builder here fails `test_kinds.py` with a sentence that says so: add one to the table of its registry
in `BUILDERS`, and the hostile bundles, the equal answers and the memory account cover it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

import leanrec.index
import leanrec.rerank
import leanrec.runtime
from leanrec.compression import STEPS
from leanrec.compression.tables import with_vectors
from leanrec.core.config import build as settings
from leanrec.core.ids import Id, Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.registry import Registry
from leanrec.features.tables import FeatureTables
from leanrec.index import INDEXES
from leanrec.index.vectors import VECTORS
from leanrec.kernels.similarity import Weighting
from leanrec.rerank import RERANKERS, Catalogue
from leanrec.runtime.base import Engine, ScoringEngine, Source
from leanrec.runtime.calibration import Calibrator
from leanrec.runtime.dense import DENSE, Inputs, dense_names, make_dense, put_dense
from leanrec.runtime.dense.base import range_of
from leanrec.runtime.engines import ENGINES
from leanrec.runtime.engines.ctr import PlanEngine
from leanrec.runtime.engines.trees import TreeEngine
from leanrec.runtime.merging.base import Merge
from leanrec.runtime.merging.features import ItemFacts, feature_names
from leanrec.runtime.merging.fixed import ReciprocalRank, Weighted
from leanrec.runtime.merging.learned import Learned, LinearRanker
from leanrec.runtime.merging.trees import TreesRanker
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.chain import ChainSource
from leanrec.runtime.sources.content import ContentSource
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.sources.hybrid import HybridSource
from leanrec.runtime.sources.neighbours import NeighbourSource
from leanrec.runtime.sources.popular import PopularSource
from leanrec.runtime.sources.scorer import ScoringSource
from leanrec.runtime.sources.similar_users import SimilarUsersSource
from leanrec.runtime.ways import drive

__all__ = ["BUILDERS", "ITEMS", "KINDS", "build", "histories", "missing", "registries"]

Builder = Callable[[], Recommender]
F32 = npt.NDArray[np.float32]
ITEMS, DIM, USERS = 40, 8, 12


def table(seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((ITEMS, DIM), dtype=np.float32)


def histories(batch: int = 64, seed: int = 0) -> Jagged:
    """Of 1 to 12 items."""
    rng = np.random.default_rng(seed)
    return Jagged.from_rows([rng.integers(0, ITEMS, rng.integers(1, 13)).astype(np.int32) for _ in range(batch)])


def popular(name: str = "popular", seed: int = 1) -> PopularSource:
    return PopularSource(name, np.random.default_rng(seed).random(ITEMS, np.float32))


def attributes() -> Any:
    import polars as pl

    from leanrec.features.items import ItemAttributes

    rows = {"item_id": [f"i{n}" for n in range(ITEMS)], "title": [f"Title {n}" for n in range(ITEMS)]}
    return ItemAttributes.from_frame(pl.DataFrame({**rows, "colour": ["red", "blue"] * (ITEMS // 2)}))


def recommender(source: Source, *, text_ids: bool = True, **options: Any) -> Recommender:
    """With a fallback, and user ids where the source keeps something for each user."""
    ids: list[Id] = [f"i{n}" if text_ids else 100 + n for n in range(ITEMS)]
    users = Vocabulary([f"u{n}" for n in range(source.num_users)]) if source.personal else None
    return Recommender(source, Vocabulary(ids), repeats=False, fallback=popular(), users=users, **options)


def _random(shapes: Mapping[str, tuple[int, ...]], seed: int = 2) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, dtype=np.float32) * np.float32(0.3) for name, shape in shapes.items()}


def _dense(**layers: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, size in layers.items():
        shapes |= {f"{name.replace('__', '.')}.weight": size, f"{name.replace('__', '.')}.bias": size[:1]}
    return shapes


def _norms(*names: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (DIM,) for name in names for part in ("weight", "bias")}


def _engine(kind: str, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Engine:
    return ENGINES[kind].load(config, _random(shapes), table())


def _transformer() -> Engine:
    shapes = _norms("norm", "blocks.0.norm1", "blocks.0.norm2") | {"positions.weight": (6, DIM)}
    dense = {"attention.qkv": (3 * DIM, DIM), "attention.out": (DIM, DIM), "up": (32, DIM), "down": (DIM, 16)}
    dense |= {"gate1": (DIM, DIM), "gate2": (DIM, DIM)}
    shapes |= _dense(**{f"blocks.0.{name}": size for name, size in dense.items()})
    return _engine("transformer", {"block": "ligr", "dim": DIM, "layers": 1, "heads": 2, "max_length": 6}, shapes)


def _gru() -> Engine:
    hidden = 6
    shapes = _norms("norm") | _dense(out=(DIM, hidden))
    shapes |= {"gru.weight_ih_l0": (18, DIM), "gru.weight_hh_l0": (18, hidden)}
    shapes |= {"gru.bias_ih_l0": (18,), "gru.bias_hh_l0": (18,)}
    return _engine("gru", {"dim": DIM, "layers": 1, "hidden": hidden, "max_length": 6}, shapes)


def _caser() -> Engine:
    shapes = _norms("norm") | _dense(vertical=(3, 4), hidden=(DIM, 4 * 2 + 3 * DIM), out=(DIM, DIM))
    shapes |= _dense(**{f"horizontal.{n}": (2, (n + 1) * DIM) for n in range(4)})
    return _engine("caser", {"dim": DIM, "window": 4, "filters": 2, "vertical": 3}, shapes)


def _hstu() -> Engine:
    shapes = _norms("norm", "blocks.0.norm1", "blocks.0.norm2")
    shapes |= _dense(blocks__0__uvqk=(4 * DIM, DIM), blocks__0__out=(DIM, DIM))
    shapes |= {"blocks.0.position_PH": (6, 2), "blocks.0.time_BH": (33, 2)}
    config = {"dim": DIM, "layers": 1, "heads": 2, "max_length": 6, "timed": True}
    return _engine("hstu", config, shapes)


def _towers() -> Engine:
    shapes = _dense(inner=(16, DIM), outer=(DIM, 16), look=(DIM, DIM))
    shapes |= {"weigh.weight": (1, DIM), "ago_L": (6,), "users": (USERS, DIM)}
    return _engine("towers", {"pooling": "attention", "window": 6, "hidden": 16}, shapes)


def _factors() -> Engine:
    config = {"fold": "ridge", "regularisation": 0.1}
    tensors = _random({"users": (USERS, DIM)}) | {"spectrum": np.linspace(0.1, 1, DIM).astype(np.float32)}
    return ENGINES["factors"].load(config, tensors, table())


def _embedding(engine: Callable[[], Engine], index: str = "exact", **options: Any) -> Builder:
    def make() -> Recommender:
        return recommender(EmbeddingSource("small", engine(), INDEXES[index].build(table())), **options)

    return make


def _kept(kind: str, index: str = "coded", **options: Any) -> Builder:
    """Item vectors of one kind."""

    def make() -> Recommender:
        vectors_type = VECTORS[kind]
        vectors = vectors_type.encode(table(), settings(vectors_type.Options, options))
        return with_vectors(_embedding(_gru)(), vectors, index)

    return make


def neighbour_source() -> NeighbourSource:
    rows = [[(n + step) % ITEMS for step in (1, 2, 3)] for n in range(ITEMS)]
    strengths = np.tile(np.array([3, 2, 1], np.float32), ITEMS)
    selves = np.full(ITEMS, 4, np.float32)
    return NeighbourSource("near", Jagged.from_rows(rows), strengths, selves, window=9, half_life=3.0)


def content_source() -> ContentSource:
    terms = Jagged.from_rows([[n % 5, 5 + n % 3] for n in range(ITEMS)])
    values = np.full(2 * ITEMS, 0.5**0.5, np.float32)
    return ContentSource("content", terms, values, 8, window=9, half_life=None)


def similar_users_source() -> SimilarUsersSource:
    had = Jagged.from_rows([sorted({(user * 3 + step) % ITEMS for step in range(6)}) for user in range(USERS)])
    weighting = Weighting("cosine", np.ones(ITEMS, np.float32), 6.0)
    counts = np.ones(len(had.values), np.int32)
    return SimilarUsersSource("alike", had, counts, weighting, users=5, shrinkage=1.0, window=9)


@cache
def _world() -> FeatureTables:
    """Numbers, categories, lists and moments of users and items."""
    import polars as pl

    from leanrec.data.examples.events import examples_of
    from leanrec.data.prepare import prepare
    from leanrec.features.space import FeatureConfig, FeatureSpace

    rng = np.random.default_rng(0)
    users, items = np.arange(360) % USERS, rng.integers(0, ITEMS, 360)
    times, values = 1.6e9 + 3600.0 * np.arange(360), rng.integers(1, 6, 360)
    items[:ITEMS] = np.arange(ITEMS)
    events = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times, "value": values})
    facts = {"item_id": range(ITEMS), "price": [float(n) if n % 5 else None for n in range(ITEMS)]}
    facts["genres"] = [["a", "b", "c"][n % 3 : n % 3 + 2] for n in range(ITEMS)]
    facts["released"] = [1.5e9 + 1e6 * n for n in range(ITEMS)]
    people = pl.DataFrame({"user_id": range(USERS), "gender": ["f", "m", None] * (USERS // 3)})
    data = prepare(events, items=pl.DataFrame(facts), users=people, split="time:0.8,0.1,0.1")
    examples = examples_of(data, "value>=4", history=5)
    config = FeatureConfig(columns={"released": "time"}, crosses=(("gender", "timestamp.hour"),), history=5)
    return FeatureTables.build(FeatureSpace.fit(examples, config), examples)


def _plan() -> ScoringEngine:
    from leanrec.features.stacked import Stacked

    layout = _world().space.layout
    stacked = Stacked.of(layout)
    plan = [
        {"name": "seen", "op": "attend", "inputs": ["target", "history"], "options": {}},
        {"name": "all", "op": "concat", "inputs": ["flat", "seen"], "options": {}},
        {"name": "deep", "op": "mlp", "inputs": ["all"], "options": {}},
        {"name": "out", "op": "dense", "inputs": ["deep"], "options": {}},
    ]
    width = (stacked.fields + 1) * 4
    shapes = _dense(seen__hidden=(3, 16), seen__weight=(1, 3), deep__layers__0=(6, width), out__layer=(1, 6))
    weights = _random(shapes)
    return PlanEngine(plan, layout, _random({"t": (stacked.total, 5)})["t"], weights, history=5)


def _trees() -> ScoringEngine:
    arrays = {
        "roots": np.array([0], np.int32), "feature": np.array([0, -1, -1], np.int32),
        "threshold": np.array([2.5, 0, 0]), "children": np.array([[1, 2], [0, 0], [0, 0]], np.int32),
        "value": np.array([0, 0.3, -0.7]), "sets": np.empty(0, np.uint32), "set_offsets": np.zeros(4, np.int32),
    }  # fmt: skip
    return TreeEngine.load({}, arrays, _world().space.layout)


def _scored(engine: Callable[[], ScoringEngine]) -> Builder:
    def make() -> Recommender:
        calibrator = Calibrator("isotonic", knots_x=np.array([-1.0, 0.0, 2.0]), knots_y=np.array([0.1, 0.4, 0.9]))
        return recommender(ScoringSource("clicks", ITEMS, _world(), engine(), calibrator))

    return make


def hybrid_source(merge: Merge | None = None, *rerankers: Any, repeats: bool = False) -> HybridSource:
    merge = merge or ReciprocalRank([1.0, 0.5])
    return HybridSource(
        "both", [neighbour_source(), popular("late", 7)], merge, depth=20, repeats=repeats, rerankers=rerankers
    )


def _merged(merge: Callable[[], Merge]) -> Builder:
    return lambda: recommender(hybrid_source(merge(), repeats=True))


def _facts() -> ItemFacts:
    return ItemFacts.of(histories(30, seed=5), None, ITEMS)


def _linear() -> Merge:
    names = feature_names(("near", "late"))
    return Learned(LinearRanker(np.random.default_rng(3).standard_normal(len(names))), _facts(), names)


def _forest() -> Merge:
    names = feature_names(("near", "late"))
    rng = np.random.default_rng(4)
    feature = rng.integers(0, len(names), (2, 3)).astype(np.int32)
    return Learned(TreesRanker(feature, rng.random((2, 3)), rng.standard_normal((2, 4))), _facts(), names)


_RERANK: dict[str, dict[str, Any]] = {
    "mmr": {"diversity": 0.4}, "dpp": {"diversity": 0.4}, "calibrated": {"column": "genres"}, "freshness": {},
    "rules": {"rules": [{"column": "brand", "values": ["b1"], "effect": "bury"}]}, "block": {"items": ["i3"]},
    "caps": {"column": "brand", "at_most": 2},
}  # fmt: skip


def _reranked(kind: str) -> Builder:
    def make() -> Recommender:
        import polars as pl

        from leanrec.core.config import build as configured

        genres = [[f"g{n % 3}"] if n % 5 else [f"g{n % 3}", "g3"] for n in range(ITEMS)]
        ids = [f"i{n}" for n in range(ITEMS)]
        frame = pl.DataFrame({"item_id": ids, "genres": genres, "brand": [f"b{n % 4}" for n in range(ITEMS)]})
        events = histories(30, seed=5)
        times = Jagged(np.arange(len(events.values), dtype=np.float64) * 3600, events.offsets)
        known = Catalogue(items=Vocabulary(ids), events=events, times=times, attributes=frame, vectors_ND=table())
        way = RERANKERS[kind]
        return recommender(hybrid_source(None, way.fit(configured(way.Options, _RERANK[kind]), known)))

    return make


def _stepped(name: str, **settings: Any) -> Builder:
    """A bundle that a compression step made of a small transformer; one that goes by the clock is told that it pays."""

    def make() -> Recommender:
        from tests.compression.toys import transformer, work

        with mock.patch("leanrec.compression.int8._time_layers", return_value=(2e-5, 1e-5)):
            after, record = STEPS[name](**settings).apply(transformer(), work())
        assert record.applied, record.said
        return after

    return make


def _driven(name: str) -> Builder:
    """A transformer that is carried out in one of the ways to run an encoder."""
    return _embedding(lambda: drive(_transformer(), {"name": name, "threads": 1}))


def _layered(kind: str) -> Builder:
    """A transformer all of whose dense layers are of one kind."""

    def make() -> Recommender:
        source = _embedding(_transformer)().source
        assert isinstance(source, EmbeddingSource)
        tensors = dict(source.engine.tensors())
        for name in dense_names(tensors):
            plain = make_dense(tensors, name)
            told = Inputs(np.eye(plain.size[1]), range_of(np.array([[4.0]], np.float32)))
            tensors = put_dense(tensors, name, DENSE[kind].encode(plain.weight(), np.asarray(plain.bias), told))
        engine = type(source.engine).load(source.engine.config(), tensors, table())
        return recommender(EmbeddingSource("small", engine, source.index))

    return make


BUILDERS: dict[str, dict[str, Builder]] = {
    "source": {
        "embedding": _embedding(_factors, attributes=attributes()),
        "neighbours": lambda: recommender(neighbour_source(), text_ids=False),
        "scorer": _scored(_plan),
        "content": lambda: recommender(content_source()),
        "similar-users": lambda: recommender(similar_users_source()),
        "popular": lambda: recommender(popular("top")),
        "chain": lambda: recommender(ChainSource("first", [content_source(), neighbour_source()])),
        "hybrid": lambda: recommender(hybrid_source()),
    },
    "engine": {
        "factors": _embedding(_factors),
        "transformer": _embedding(_transformer),
        "gru": _embedding(_gru),
        "caser": _embedding(_caser),
        "towers": _embedding(_towers),
        "hstu": _embedding(_hstu),
    },
    "scoring engine": {"plan": _scored(_plan), "trees": _scored(_trees)},
    "index": {
        **{name: _embedding(_gru, name) for name in INDEXES if name != "coded-pruned"},
        "coded-pruned": _kept("product", "coded-pruned", code_bytes=4),
    },
    "kind of item vectors": {
        **{kind: _kept(kind) for kind in ("float32", "bfloat16", "int8", "int6", "int5", "int4", "int2")},
        "product": _kept("product", code_bytes=4),
        "low-rank": _kept("low-rank", rank=4),
        "shared": _kept("shared", clusters=5),
    },
    "merge": {
        "rrf": _merged(lambda: ReciprocalRank([1.0, 0.5])),
        "weighted": _merged(lambda: Weighted([1.0, 0.5])),
        "learned": _merged(_linear),
    },
    "ranker": {"linear": _merged(_linear), "trees": _merged(_forest)},
    "re-ranker": {kind: _reranked(kind) for kind in _RERANK},
    "dense layer": {
        kind: _layered(kind)
        for kind in (
            "float32",
            "int8",
            "int8-static",
            "int8-weight",
            "int4-weight",
            "bfloat16",
            "low-rank",
            "sparse-csr",
            "sparse-2:4",
            "sparse-block",
        )
    },
    "way to run an encoder": {name: _driven(name) for name in ("plain", "packed", "fixed", "onnxruntime", "openvino")},
    "compression step": {
        "int8-items": _stepped("int8-items"),
        "items": _stepped("items"),
        "low-rank-items": _stepped("low-rank-items"),
        "drop-dimensions": _stepped("drop-dimensions"),
        "share-items": _stepped("share-items", clusters=8),
        "index": _stepped("index", kind="ivf-int4"),
        "engine": _stepped("engine", way="fixed"),
        "serving": _stepped("serving", max_batch=16, threads=1, pinned=True, kept_answers=20),
        "int8-dense": _stepped("int8-dense"),
        "distil": _stepped(
            "distil", model="gru4rec", settings={"dim": 8, "epochs": 1, "max_length": 8, "negatives": 8}
        ),
        "prune": _stepped("prune", layers=0.67, heads=0.5, channels=0.5),
        "sparsify": _stepped("sparsify", pattern="2:4"),
        "low-rank": _stepped("low-rank", energy=0.9, pays="bytes"),
        "quantise": _stepped("quantise", precision="int4-weight", pays="bytes"),
        "mixed-precision": _stepped("mixed-precision", tolerance=0.2, users=60),
        "quantise-aware": _stepped("quantise-aware", precision="int8-static", epochs=1),
    },
}
"""Registry, by what it holds -> kind -> a recommender that holds one."""


ELSEWHERE = {"ONNX graph"}
"""Registries of what is made of a bundle and never part of one."""
NEVER_STORED = {("dense layer", "observed")} | {
    ("way to run an encoder", name)
    for name in ("onnxruntime-int8", "openvino-int8", "openvino-bf16", "torch", "torch-compile", "aot-inductor")
}
"""Kinds that no bundle may hold; what says that it does is refused."""


def registries() -> dict[str, Registry[Any]]:
    """Every registry of what can be in a bundle, found in the packages that make bundles up; and the steps."""
    found: dict[str, Registry[Any]] = {STEPS.what: STEPS}
    for package in (leanrec.runtime, leanrec.index, leanrec.rerank):
        names = [package.__name__, *(m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + "."))]
        for name in names:
            held = vars(importlib.import_module(name)).values()
            found |= {one.what: one for one in held if isinstance(one, Registry) and one.what not in ELSEWHERE}
    return found


def missing() -> list[str]:
    """A sentence for each kind without a builder."""
    return [
        f"the {what} {kind!r} has no builder: add one to BUILDERS[{what!r}] in tests/battery/kinds.py, so that hostile "
        "and compressed bundles of this kind are tested"
        for what, registry in registries().items()
        for kind in registry
        if not kind.startswith("toy-") and kind not in BUILDERS.get(what, {}) and (what, kind) not in NEVER_STORED
    ]


KINDS = [(what, kind) for what, kinds in BUILDERS.items() for kind in kinds]


def build(what: str, kind: str) -> Recommender:
    """A new recommender of a kind."""
    return BUILDERS[what][kind]()


@cache
def built(what: str, kind: str) -> Recommender:
    """A recommender of a kind, made once a session: nobody may change it."""
    return build(what, kind)
