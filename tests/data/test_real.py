"""Real data sets, where they are at hand (LEANREC_BENCH_DATA, by default ../shared/data beside the repository)."""

import os
from pathlib import Path

import numpy as np
import pytest

from leanrec.data.prepare import prepare

FOLDER = Path(os.environ.get("LEANREC_BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))


def folder(name):
    if not (FOLDER / name / "interactions.parquet").exists():
        pytest.skip(f"the data set {name} is not at hand: set LEANREC_BENCH_DATA")
    return FOLDER / name


def test_beauty():
    data = prepare(folder("amazon-beauty-5core"), order_by="pos")
    assert (len(data.users), len(data.items), len(data.interactions)) == (22_363, 12_101, 198_502)
    assert data.report.splits == {"train": 153_776, "valid": 22_363, "test": 22_363}
    assert not data.protocol.repeats
    five = prepare(folder("amazon-beauty-5core"), order_by="pos", min_count=5)
    assert five.fingerprint == data.fingerprint
    assert "Makeup" in data.attributes["categories"][0].to_list()


def test_online_retail():
    data = prepare(folder("online-retail"), split="time:0.8,0.1,0.1")
    assert data.protocol.repeats
    assert data.report.splits["test"] == pytest.approx(0.1 * 397_884, rel=0.01)
    cases = data.cases("test")
    assert (cases.targets.lengths > 0).all()
    latest = data.interactions.times[data.interactions.split < 2].max()
    assert data.interactions.times[data.interactions.split == 2].min() > latest
    assert data.attributes["title"].null_count() == 0


def test_gowalla_keeps_the_published_split():
    data = prepare(folder("gowalla-lightgcn"), split="column:split")
    counts = np.bincount(data.interactions.split)
    assert counts[0] + counts[1] == 810_128
    assert counts[2] == 217_242
    assert data.protocol.drawn_valid
    assert not data.protocol.ordered
    assert counts[1] == pytest.approx(0.1 * 810_128, rel=0.03)
    assert data.train(refit=True).lengths.min() > 0
    assert len(data.cases("test")) == 29_858
