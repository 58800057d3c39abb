"""Context columns of an event log: kept with their events, stored, and what models of clicks learn and are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.core.nouns import Request
from leanrec.data.dataset import Dataset
from leanrec.data.examples.events import examples_of
from leanrec.data.prepare import prepare
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender


def _log(users: int = 60, events: int = 8) -> pl.DataFrame:
    """In the morning everybody takes even items, in the evening odd ones; the temperature is a number with gaps."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(users):
        for step in range(events):
            moment = ("morning", "evening")[int(random.integers(2))]
            item = 2 * int(random.integers(10)) + (moment == "evening")
            told = None if random.random() < 0.1 else moment
            rows.append((f"u{user}", f"i{item}", 1.6e9 + 86_400 * step + user, told, None if step == 3 else step * 1.5))
    schema = ["user_id", "item_id", "timestamp", "moment", "degrees"]
    return pl.DataFrame(rows, schema=schema, orient="row").sample(fraction=1.0, shuffle=True, seed=1)


def _told(data: Dataset) -> pl.DataFrame:
    """The log as the data set has it."""
    events = data.interactions
    every = np.arange(len(events))
    return pl.DataFrame(
        [
            pl.Series("user_id", data.users.ids(events.items.row_of())),
            pl.Series("item_id", data.items.ids(events.items.values)),
            pl.Series("timestamp", events.times),
            *(column.series(name, every) for name, column in events.context.items()),
        ]
    )


@pytest.mark.parametrize("kind", ["frame", "csv", "parquet"])
def test_columns_stay_with_their_events(kind: str, tmp_path: Path) -> None:
    log = _log()
    source: object = log
    if kind != "frame":
        source = tmp_path / f"log.{kind}"
        log.write_csv(source) if kind == "csv" else log.write_parquet(source)
    data = prepare(source, context=["moment", "degrees"], out=tmp_path / "data")
    again = Dataset.load(tmp_path / "data")
    order = ["user_id", "timestamp", "item_id"]
    assert _told(again).select(log.columns).sort(order).equals(log.sort(order))
    assert again.fingerprint == data.fingerprint != prepare(log).fingerprint


def test_dropped_events_take_their_context_along() -> None:
    log = pl.concat([_log(), _log().head(40)])
    data = prepare(log, context=["moment", "degrees"], drop=["duplicates"], min_count=3)
    found, order = _told(data), ["user_id", "timestamp", "item_id"]
    assert len(found) < len(log)
    found = found.select(log.columns)
    assert found.sort(order).equals(log.unique().join(found.select(order), on=order, how="semi").sort(order))


def test_rows_of_events_show_it_and_drawn_items_share_it() -> None:
    data = prepare(_log(), context=["moment", "degrees"])
    examples = examples_of(data, negatives=2)
    assert {examples.sides[name] for name in ("moment", "degrees")} == {"context"}
    rows = examples.sample("train", examples.rows("train"))
    assert rows.schema["moment"] == pl.String and rows.schema["degrees"] == pl.Float64
    same = rows.group_by("user_id", "timestamp").agg(pl.col("moment").n_unique(), pl.len())
    assert same["len"].max() == 3 and same["moment"].max() == 1


def test_a_model_of_clicks_listens_to_it(tmp_path: Path) -> None:
    data = prepare(_log(), context=["moment"], repeats=True)
    fields = {"crosses": [["moment", "item_id"]]}
    MODELS["logistic"](passes=30, negatives=3, features=fields).fit(data, seed=0).save(tmp_path / "b")
    model = Recommender.load(tmp_path / "b")
    for moment, rest in (("morning", 0), ("evening", 1)):
        found = model.answer([Request(user_id="u1", k=6, context={"moment": moment})])[0]
        assert sum(int(str(item)[1:]) % 2 == rest for item in found.item_ids) >= 5
    for context in ({"moment": "noon"}, {"moment": None}, {"other": 1}, {"moment": 7.5}):
        assert len(model.answer([Request(user_id="u1", k=3, context=context)])[0].item_ids) == 3


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'weather'.*--context"):
        prepare(_log(), context=["weather"])
    with pytest.raises(InputError, match="context column 'moment' holds List"):
        prepare(_log().with_columns(moment=pl.concat_list("moment")), context=["moment"])
    prepare(_log(), context=["moment"], out=tmp_path / "data")
    stored = next((tmp_path).rglob("context.safetensors"))
    stored.write_bytes(stored.read_bytes()[:-3])
    with pytest.raises(InputError, match="prepare it again"):
        Dataset.load(tmp_path / "data")
