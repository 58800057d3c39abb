"""C1: bytes of the item table at a certified loss of at most 1 % NDCG, Gowalla (64 factors) and a trained 1M-item run.

Two ladders of ways to keep the table as what is served, from float32 down: fewer bits for every value, and vectors of
their own only for items that occur often. Each rung is made with what training and the users that tune know, judged on
users that tune (first figure) and certified on users that nothing was chosen with. Rungs that lose at most .6 % there
are certified in the ladder's order, and the first that is not certified ends it, as does one that loses more than 5 %
on users that tune: a fixed sequence on each ladder of each of the two worlds, at a quarter of the 5 % each, so that all
that is certified holds with 95 % together. The ratio is float32's bytes over those of the leanest rung that is
certified.
How far errors count by what queries see (`asked`) is chosen by users that tune, at the first rung of fewer than 6 bits
and at the first of product codes. Tables of more than 200,000 rows are not coded by products.
What counts is every array that reading and scoring items needs: codes, ranges, pieces, basis, who shares; encoder,
users and ids are the same for all. A metric of first places does not see what becomes of items that are never in them,
so the table also tells how much of users' lists stays the same, and how many items they show.

Gowalla: `als` with 64 factors, fitted again on train + validation; nobody has a stored vector: users are folded in from
the coded items when they ask. 1M: `esasrec`, whose encoder reads coded items too; one user in twenty finds the last
item, so that it takes many to tell codes apart: all that tune, and to certify C1_USERS (a fixed random choice) users of
the same world who were not there when the model was trained. C1_SETS=gowalla,1m picks data sets.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import ROOT, Result, bench_data
from benchmarks.trained import strangers, trained
from leanrec.compression.base import Work, make_step, with_source
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.data.cases import Cases
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.evaluation.certificate import Certificate, certify_loss
from leanrec.evaluation.metrics import parse_metric, per_user
from leanrec.index.vectors import ItemVectors
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource
from leanrec.runtime.ways import drive

CACHE = ROOT / ".cache" / "c1"
LOSS = 0.01
_PROMISING = 0.006
_HOPELESS = 0.05  # fewer bytes still would lose more
_LARGE = 20_000
ASKED = (0.0, 0.5, 0.9)
_ASKED = int(os.environ.get("C1_USERS", "150000"))
ALS = {"factors": 64, "unobserved": 0.003, "regularisation": 0.003, "iterations": 10}
LADDERS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "fewer bits": (
        *((kind, {"step": "items", "kind": kind}) for kind in ("bfloat16", "int8", "int6", "int5", "int4")),
        *((f"product {n}", {"step": "items", "kind": "product", "code_bytes": n}) for n in (32, 22)),
        ("int2", {"step": "items", "kind": "int2"}),
        *((f"product {n}", {"step": "items", "kind": "product", "code_bytes": n}) for n in (16, 8)),
    ),
    "shared rows": tuple(
        (f"{own:.0%} own, {kind}", {"step": "share-items", "own": own, "clusters": clusters, "kind": kind})
        for own, clusters, kind in (
            (0.5, 4096, "int8"), (0.7, 2048, "product"), (0.6, 2048, "product"), (0.3, 4096, "int8"),
            (0.1, 4096, "int8"), (0.05, 4096, "int8"), (0.05, 4096, "int6"), (0.02, 4096, "int6"), (0.01, 1024, "int6"),
        )
    ),
}  # fmt: skip
_ALPHA = 0.05 / (2 * len(LADDERS))
_PRODUCTS = 200_000  # rows beyond which making product codes takes too long
_LOOKED_AT = 2048


@dataclass(frozen=True, slots=True)
class World:
    """A trained model, its data, the metric, settings of its product codes, and who tunes and who certifies."""

    name: str
    model: Recommender
    data: Dataset
    metric: str
    product: dict[str, Any]
    tuning: Cases
    certifying: Cases


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to keep the table. tuned: the loss on users that tune; beyond .6 % nobody else is asked. same: part of
    their ten best items that stay. shown: how many items the lists of 2,048 of them show."""

    ladder: str
    name: str
    nbytes: int
    error: float
    tuned: float
    same: float
    shown: int
    certificate: Certificate | None
    seconds: float


def run() -> Result:
    """The smaller ratio of the two worlds."""
    wanted = os.environ.get("C1_SETS", "gowalla,1m").split(",")
    rows, ratios, figures, notes = [], [], [], []
    for name in wanted:
        world = _gowalla() if name == "gowalla" else _million()
        lists = _lists(world, world.model)
        full, before = _items(world.model).nbytes, [_values(world, world.model, cases) for cases in _sides(world)]
        shown = f"{len(np.unique(lists)):,}"
        rows.append(
            (world.name, "float32", f"{full:,}", "1.0", "", "", "", shown, f"{before[1].mean():.4f} {world.metric}", "")
        )
        rungs = [rung for ladder in LADDERS for rung in _climb(world, ladder, before, lists)]
        rows += [_line(world, full, rung) for rung in rungs]
        lean = min(filter(None, (_leanest(rungs, ladder) for ladder in LADDERS)), key=lambda r: r.nbytes, default=None)
        ratios.append(full / lean.nbytes if lean else 1.0)
        said = f"{lean.name}, {lean.certificate.verdict(LOSS)}" if lean and lean.certificate else "none"
        figures.append(f"{world.name} {ratios[-1]:.1f} ({lean.name if lean else 'none'})")
        notes.append(f"{world.name}: the leanest certified is {said}")
    return Result(
        id="C1", ratio=min(ratios), interval=(min(ratios), min(ratios)),
        gate="ok" if min(ratios) > 1 and len(wanted) == 2 else "inconclusive" if min(ratios) > 1 else "failed",
        headers=(
            "data", "table", "bytes", "ratio", "error", "loss, tuning users", "lists the same", "items shown",
            "loss, certifying users", "s",
        ),
        rows=rows, figures=", ".join(figures), notes=notes,
    )  # fmt: skip


def _gowalla() -> World:
    data = prepare(bench_data("gowalla-lightgcn") / "interactions.parquet", split="column:split")
    place = CACHE / f"gowalla-{data.fingerprint[:12]}-{'-'.join(f'{key}={value}' for key, value in ALS.items())}"
    if not place.exists():
        MODELS["als"](**ALS).fit(data, seed=0, refit=True, metric="ndcg@20").save(place)
    model, sides = Recommender.load(place), [data.cases("test", users) for users in ("tune", "certify")]
    return World("Gowalla", model, data, "ndcg@20", {"targets": 0.5}, *sides)


def _million() -> World:
    found = trained("1m-64")
    model, data = Recommender.load(found.run), found.dataset()
    source = model.source
    assert isinstance(source, EmbeddingSource), "an encoder with an item table"
    engine = drive(source.engine, {"name": "packed", "threads": 1})
    model = with_source(model, EmbeddingSource(source.name, engine, source.index))
    certifying = _some(strangers("1m", 3), _ASKED)
    return World("1M items", model, data, "ndcg@10", {"targets": 0.5}, data.cases("test", "tune"), certifying)


def _climb(
    world: World, ladder: str, before: list[npt.NDArray[np.float64]], lists: npt.NDArray[np.int32]
) -> list[Rung]:  # fmt: skip
    """The rungs of a ladder, to the one that ends it. before: the metric of users that tune and of those that certify;
    lists: what the users that are looked at get, all of the table as trained."""
    work = Work(histories=world.tuning.histories, data=world.data)
    rungs: list[Rung] = []
    asked: dict[bool, float] = {}
    for name, settings in LADDERS[ladder]:
        start = time.perf_counter()
        chosen = dict(settings)
        product = settings["kind"] == "product"
        if product and len(world.model.items) > _PRODUCTS:
            continue
        if ladder == "fewer bits" and (product or settings["kind"] in ("int5", "int4", "int2")):
            chosen |= world.product if product else {}
            if product not in asked:
                asked[product] = max(ASKED, key=lambda a: float(_tried(world, work, {**chosen, "asked": a}).mean()))
                print(f"{world.name}: {name} heeds what queries see by {asked[product]:g}", flush=True)
            chosen["asked"] = asked[product]
        lean, record = make_step(chosen).apply(world.model, work)
        seconds = time.perf_counter() - start
        tuned = 1 - float(_values(world, lean, world.tuning).mean() / before[0].mean())
        found, after = None, _lists(world, lean)
        if tuned <= _PROMISING:
            values_B = _values(world, lean, world.certifying)
            found = certify_loss(before[1], values_B, metric=world.metric, alpha=_ALPHA)
        same = float((after[:, :, None] == lists[:, None, :]).any(axis=2).mean())
        rungs.append(
            Rung(
                ladder, name, record.facts["bytes_after"], record.facts["error"], tuned, same, len(np.unique(after)),
                found, seconds,
            )
        )  # fmt: skip
        print(_line(world, _items(world.model).nbytes, rungs[-1]), flush=True)
        if (found and not found.holds(LOSS)) or tuned > _HOPELESS:
            break
    return rungs


def _sides(world: World) -> tuple[Cases, Cases]:
    return world.tuning, world.certifying


def _items(model: Recommender) -> ItemVectors:
    assert isinstance(model.source, EmbeddingSource), "an encoder with an item table"
    return model.source.items


def _lists(world: World, model: Recommender) -> npt.NDArray[np.int32]:
    """(users, 10) the best items of some users that tune."""
    asked = world.tuning.histories.slice(0, min(_LOOKED_AT, len(world.tuning)))
    lists: npt.NDArray[np.int32] = model.rank(asked, 10, include_seen=world.data.protocol.repeats)[0].items_BK
    return lists


def _tried(world: World, work: Work, settings: dict[str, Any]) -> npt.NDArray[np.float64]:
    """What users that tune get with these settings."""
    return _values(world, make_step(settings).apply(world.model, work)[0], world.tuning)


def _some(cases: Cases, count: int) -> Cases:
    chosen = np.sort(np.random.default_rng(0).permutation(len(cases))[:count])
    return Cases(cases.users[chosen], cases.histories.take(chosen), cases.targets.take(chosen))


def _values(world: World, model: Recommender, cases: Cases) -> npt.NDArray[np.float64]:
    """(users,) the metric of what the recommender answers, asked as it is served.

    Where everybody has one target in a large catalogue, most values are 0, and ten better items are the proof: only
    users without it among the most frequent items are ranked. Values are kept by the bundle's id, so that a run that
    was cut short goes on where it stopped.
    """
    users = hashlib.sha256(np.ascontiguousarray(cases.users).tobytes()).hexdigest()[:12]
    kept = CACHE / "values" / f"{model.id[:24]}-{users}-{world.metric}.npy"
    if kept.exists():
        found: npt.NDArray[np.float64] = np.load(kept, allow_pickle=False)
        return found
    kept.parent.mkdir(parents=True, exist_ok=True)
    values_B = _asked(world, model, cases)
    np.save(kept, values_B)
    return values_B


def _asked(world: World, model: Recommender, cases: Cases) -> npt.NDArray[np.float64]:
    metric = parse_metric(world.metric)
    values_B = np.zeros(len(cases))
    strong = _strong(world, model) if len(model.items) > _LARGE and cases.targets.lengths.max() == 1 else None
    for low in range(0, len(cases), 256):
        part = cases.histories.slice(low, min(low + 256, len(cases)))
        targets = cases.targets.slice(low, low + len(part))
        left = np.arange(len(part)) if strong is None else _unproven(model, strong, part, targets.values, metric.k)
        hits, _ = model.rank(part.take(left), metric.k, include_seen=world.data.protocol.repeats)
        found = per_user(hits.items_BK, targets.take(left), [metric])
        values_B[low + left] = found[world.metric]
    return values_B


def _strong(world: World, model: Recommender) -> npt.NDArray[np.float32]:
    """(n, D) vectors of the items that occur most often in training."""
    items = _items(model)
    counts_N = np.bincount(world.data.train().values, minlength=len(items))
    return items.gather(np.argsort(-counts_N, kind="stable")[:_LARGE])


def _unproven(
    model: Recommender, strong_nD: npt.NDArray[np.float32], histories: Jagged, targets_B: npt.NDArray[Any], k: int
) -> npt.NDArray[np.int64]:
    """Users for whom fewer than k items that they have not seen are known to score above the target."""
    source = model.source
    assert isinstance(source, EmbeddingSource), "an encoder with an item table"
    vectors_BD = source.encode(Queries(histories, 1))
    wanted_B = np.einsum("bd,bd->b", vectors_BD, source.items.gather(targets_B), dtype=np.float64)
    longest = float(np.sqrt(np.square(strong_nD.astype(np.float64)).sum(axis=1).max()))
    slack_B = 1e-4 * np.sqrt(np.square(vectors_BD.astype(np.float64)).sum(axis=1)) * longest
    above_B = (vectors_BD @ strong_nD.T > (wanted_B + slack_B).astype(np.float32)[:, None]).sum(axis=1)
    return np.flatnonzero(above_B < k + histories.lengths)


def _leanest(rungs: list[Rung], ladder: str) -> Rung | None:
    """Of a ladder's that users that tune promise, the last before the first that is not certified."""
    asked = [rung for rung in rungs if rung.certificate and rung.ladder == ladder]
    held = itertools.takewhile(lambda rung: rung.certificate and rung.certificate.holds(LOSS), asked)
    return next(iter(reversed(list(held))), None)


def _line(world: World, full: int, rung: Rung) -> tuple[str, ...]:
    judged = "not asked"
    if found := rung.certificate:
        needed = "" if found.holds(LOSS) else f", {found.users_needed(LOSS) or 'no number of'} users would certify 1 %"
        judged = f"{found.loss:+.2%} of {found.before:.4f}, at most {found.upper:+.2%} ({found.users:,} users{needed})"
    return (
        world.name, rung.name, f"{rung.nbytes:,}", f"{full / rung.nbytes:.1f}", f"{rung.error:.2%}",
        f"{rung.tuned:+.2%}", f"{rung.same:.1%}", f"{rung.shown:,}", judged, f"{rung.seconds:.0f}",
    )  # fmt: skip
