"""C1: bytes of the item table at a certified loss of at most 1 % NDCG, Gowalla (64 factors) and a trained 1M-item run.

A ladder of ways to keep the table as what is served, from float32 down. Each rung is made with what training and the
users that tune know, judged on users that tune (first figure) and certified on users that nothing was chosen with.
Rungs that lose at most .6 % there are certified in order of bytes, and the first that is not certified ends it (a fixed
sequence, so that every certificate keeps its 95 %): the ratio is float32's bytes over those of the last rung before.
How far errors count by what queries see (`asked`) is chosen by users that tune, at the first rung of fewer than 6 bits
and at the first of product codes.
What counts is every array that reading and scoring items needs: codes, ranges, pieces, basis; encoder, users and ids
are the same for all.

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
LADDER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("bfloat16", {"kind": "bfloat16"}),
    ("int8", {"kind": "int8"}),
    ("int6", {"kind": "int6"}),
    ("int5", {"kind": "int5"}),
    ("int4", {"kind": "int4"}),
    ("product 32", {"kind": "product", "code_bytes": 32}),
    ("product 22", {"kind": "product", "code_bytes": 22}),
    ("int2", {"kind": "int2"}),
    ("product 16", {"kind": "product", "code_bytes": 16}),
    ("product 8", {"kind": "product", "code_bytes": 8}),
    ("product 7", {"kind": "product", "code_bytes": 7}),
)


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
    """One way to keep the table. tuned: the loss on users that tune; beyond .6 % nobody else is asked."""

    name: str
    nbytes: int
    error: float
    tuned: float
    certificate: Certificate | None
    seconds: float


def run() -> Result:
    """Both ladders; the smaller ratio counts."""
    wanted = os.environ.get("C1_SETS", "gowalla,1m").split(",")
    rows, ratios, figures, notes = [], [], [], []
    for name in wanted:
        world = _gowalla() if name == "gowalla" else _million()
        full, before, rungs = _ladder(world)
        rows.append((world.name, "float32", f"{full:,}", "1.0", "", "", f"{before:.4f} {world.metric}", ""))
        rows += [_line(world, full, rung) for rung in rungs]
        lean = _leanest(rungs)
        ratios.append(full / lean.nbytes if lean else 1.0)
        said = f"{lean.name}, {lean.certificate.verdict(LOSS)}" if lean and lean.certificate else "none"
        figures.append(f"{world.name} {ratios[-1]:.1f} ({lean.name if lean else 'none'})")
        notes.append(f"{world.name}: the leanest certified is {said}")
    return Result(
        id="C1", ratio=min(ratios), interval=(min(ratios), min(ratios)),
        gate="ok" if min(ratios) > 1 and len(wanted) == 2 else "inconclusive" if min(ratios) > 1 else "failed",
        headers=("data", "table", "bytes", "ratio", "error", "loss, tuning users", "loss, certifying users", "s"),
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


def _ladder(world: World) -> tuple[int, float, list[Rung]]:
    """Bytes of float32, its metric on certifying users, and rungs by falling bytes, to the one that ends it."""
    source = world.model.source
    assert isinstance(source, EmbeddingSource), "an encoder with an item table"
    tuning, certifying = world.tuning, world.certifying
    work = Work(histories=tuning.histories, data=world.data)
    before = [_values(world, world.model, cases) for cases in (tuning, certifying)]
    rungs: list[Rung] = []
    asked: dict[bool, float] = {}
    for name, settings in LADDER:
        start = time.perf_counter()
        chosen = dict(settings)
        product = settings["kind"] == "product"
        if product or settings["kind"] in ("int5", "int4", "int2"):
            chosen |= world.product if product else {}
            if product not in asked:
                asked[product] = max(
                    ASKED, key=lambda a: float(_tried(world, work, {**chosen, "asked": a}, tuning).mean())
                )
                print(f"{world.name}: {name} heeds what queries see by {asked[product]:g}", flush=True)
            chosen["asked"] = asked[product]
        lean, record = make_step({"step": "items", **chosen}).apply(world.model, work)
        seconds = time.perf_counter() - start
        tuned = 1 - float(_values(world, lean, tuning).mean() / before[0].mean())
        found = None
        if tuned <= _PROMISING:
            found = certify_loss(before[1], _values(world, lean, certifying), metric=world.metric)
        rungs.append(Rung(name, record.facts["bytes_after"], record.facts["error"], tuned, found, seconds))
        print(_line(world, source.items.nbytes, rungs[-1]), flush=True)
        if (found and not found.holds(LOSS)) or tuned > _HOPELESS:
            break
    return source.items.nbytes, float(before[1].mean()), sorted(rungs, key=lambda rung: -rung.nbytes)


def _tried(world: World, work: Work, settings: dict[str, Any], tuning: Cases) -> npt.NDArray[np.float64]:
    """What users that tune get from product codes of these settings."""
    step = make_step({"step": "items", **settings})
    return _values(world, step.apply(world.model, work)[0], tuning)


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
    source = model.source
    assert isinstance(source, EmbeddingSource), "an encoder with an item table"
    counts_N = np.bincount(world.data.train().values, minlength=source.num_items)
    return source.items.gather(np.argsort(-counts_N, kind="stable")[:_LARGE])


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


def _leanest(rungs: list[Rung]) -> Rung | None:
    """Of those that users that tune promise, the last before the first that is not certified."""
    asked = [rung for rung in rungs if rung.certificate]
    held = itertools.takewhile(lambda rung: rung.certificate and rung.certificate.holds(LOSS), asked)
    return next(iter(reversed(list(held))), None)


def _line(world: World, full: int, rung: Rung) -> tuple[str, ...]:
    judged = "not asked"
    if found := rung.certificate:
        needed = "" if found.holds(LOSS) else f", {found.users_needed(LOSS) or 'no number of'} users would certify 1 %"
        judged = f"{found.loss:+.2%} of {found.before:.4f}, at most {found.upper:+.2%} ({found.users:,} users{needed})"
    return (
        world.name, rung.name, f"{rung.nbytes:,}", f"{full / rung.nbytes:.1f}", f"{rung.error:.2%}",
        f"{rung.tuned:+.2%}", judged,
        f"{rung.seconds:.0f}",
    )  # fmt: skip
