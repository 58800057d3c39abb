"""Made-up events: as many as asked for, the same for a seed, and with something to learn."""

import errno
import os
import subprocess

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError, MachineError
from leanrec.data import synthetic
from leanrec.data.prepare import prepare
from leanrec.data.synthetic import generate, sample

SMALL = {"users": 300, "items": 200, "events": 20_000}


@pytest.mark.parametrize("counts", [(1, 1, 1), (10, 5, 3), (3, 1000, 50), (300, 200, 20_000)])
def test_counts(counts):
    users, items, events = counts
    log = sample(users=users, items=items, events=events)
    assert len(log) == events
    assert log["user_id"].is_between(0, users - 1).all()
    assert log["item_id"].is_between(0, items - 1).all()
    assert log["timestamp"].is_sorted()
    assert log.schema == {"user_id": pl.Int64, "item_id": pl.Int64, "timestamp": pl.Float64}


def test_the_seed_decides():
    assert sample(**SMALL).equals(sample(**SMALL))
    assert not sample(**SMALL).equals(sample(**SMALL, seed=1))


def test_streaming_writes_the_same_events(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "_BLOCK_EVENTS", 3_000)
    file = tmp_path / "new" / "events.parquet"
    generate(file, **SMALL, text_ids=True)
    log = pl.read_parquet(file)
    assert log.sort("timestamp", maintain_order=True).equals(sample(**SMALL, text_ids=True))
    assert log["user_id"].str.starts_with("u").all()
    assert [p.name for p in file.parent.iterdir()] == ["events.parquet"]
    assert len(prepare(file).interactions) == SMALL["events"]


def test_popularity_is_zipf():
    counts = np.sort(
        sample(users=2_000, items=1_000, events=200_000, chain=0.0, taste=0.0)["item_id"].value_counts()["count"]
    )
    shares = counts[::-1] / counts.sum()
    topics = synthetic.World(users=1, items=1_000, events=1).topics
    levels = shares[: topics * 8].reshape(8, topics).mean(axis=1)
    slope = np.polyfit(np.log(np.arange(8) * topics + 1.0), np.log(levels), 1)[0]
    assert slope == pytest.approx(-1.05, abs=0.1)


def hit_rate(log):
    """Share of events whose item is the commonest follower of the item before, over that of the commonest item."""
    log = log.sort("user_id", "timestamp").with_columns(before=pl.col("item_id").shift(1).over("user_id")).drop_nulls()
    followed = log.group_by("before", "item_id").len().group_by("before").agg(pl.col("len").max())["len"].sum()
    return followed / log["item_id"].value_counts()["count"].max()


def test_the_next_item_follows_from_the_one_before():
    world = {"users": 500, "items": 300, "events": 50_000, "taste": 0.0}
    assert hit_rate(sample(**world, chain=0.6)) > 3 * hit_rate(sample(**world, chain=0.0))


def test_users_have_tastes():
    def own_items(taste):
        log = sample(users=500, items=1_000, events=50_000, chain=0.0, taste=taste)
        return log.group_by("user_id").agg(pl.col("item_id").n_unique())["item_id"].mean()

    assert own_items(3.0) < 0.8 * own_items(0.0)


@pytest.mark.parametrize("wrong", [{"users": 0}, {"items": -1}, {"chain": 1.0}])
def test_impossible_worlds(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        sample(**{**SMALL, **wrong})


def test_a_full_disk_leaves_nothing(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        with pytest.raises(MachineError, match="no space left"):
            generate(mount / "events.parquet", **SMALL)
        assert list(mount.iterdir()) == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_other_failures_are_not_hidden(tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(synthetic._Plan, "block", failing)
    with pytest.raises((MachineError, OSError, pl.exceptions.PolarsError)):
        generate(tmp_path / "events.parquet", **SMALL)
    assert list(tmp_path.iterdir()) == []
