"""Users and items transformed once: a request's features are those of a training row, whatever it leaves out."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import BundleError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.core.tensors import write_tensors
from leanrec.data.examples.events import examples_of
from leanrec.data.prepare import prepare
from leanrec.features.space import FeatureConfig, FeatureSpace
from leanrec.features.tables import FeatureTables
from tests.features.frames import VALUES
from tests.features.test_space import equal


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    count = 600
    events = pl.DataFrame(
        {
            "user_id": rng.integers(0, 30, count),
            "item_id": rng.integers(0, 40, count),
            "timestamp": 1.6e9 + 3600.0 * np.arange(count),
            "value": rng.integers(1, 6, count),
        }
    )
    items = pl.DataFrame(
        {
            "item_id": range(40),
            "price": [float(n) if n % 5 else None for n in range(40)],
            "genres": [["a", "b", "c"][n % 3 : n % 3 + 2] for n in range(40)],
            "released": [1.5e9 + 1e6 * n for n in range(40)],
        }
    )
    users = pl.DataFrame({"user_id": range(30), "gender": ["f", "m", None] * 10, "price": ["low", "high"] * 15})
    data = prepare(events, items=items, users=users, split="time:0.8,0.1,0.1")
    examples = examples_of(data, "value>=4", history=5)
    config = FeatureConfig(columns={"released": "time"}, crosses=(("gender", "timestamp.hour"),), history=5)
    space = FeatureSpace.fit(examples, config)
    return data, examples, FeatureTables.build(space, examples)


def asked(data, frame):
    """The questions of which the rows of a frame are the answers' features."""
    starts = frame["history"].to_list()
    context = {"timestamp": frame["timestamp"].to_list()}
    queries = Queries(Jagged.from_rows(starts), 1, users=frame["user_id"].to_numpy(), context=context)
    return queries, Jagged.from_rows([[item] for item in frame["item_id"].to_list()])


def test_a_request_has_the_features_of_the_training_row(world):
    data, examples, tables = world
    assert tables.space.layout.numbers == ("item_price", "item_price.missing", "released.age", "released.age.missing")
    assert tables.space.layout.lists == ("genres",)
    for part in ("train", "test"):
        frame = examples.sample(part, 10_000)
        one, other = tables.pairs(*asked(data, frame)), tables.space.transform(frame)
        equal(one, other)
        np.testing.assert_array_equal(one.history.values, other.history.values)
        np.testing.assert_array_equal(one.history.offsets, other.history.offsets)


def test_many_items_are_each_asked_of_their_query(world):
    data, examples, tables = world
    queries, _ = asked(data, examples.sample("test", 3))
    items = Jagged.from_rows([[5, 1], [], [2]])
    together = tables.pairs(queries, items)
    assert len(together) == 3
    for row, (query, item) in enumerate([(0, 5), (0, 1), (2, 2)]):
        alone = tables.pairs(queries.take(np.array([query])), Jagged.from_rows([[item]]))
        equal(alone, together.take(np.array([row])))


def test_who_is_not_known_is_a_row_without_values(world):
    data, _, tables = world
    items = Jagged.from_rows([[3]])
    for queries in (
        Queries(Jagged.empty(1), 1),
        Queries(Jagged.empty(1), 1, users=np.array([-1], np.int32)),
        Queries(Jagged.empty(1), 1, context={"timestamp": [None], "weather": ["rain"]}),
    ):
        found = tables.pairs(queries, items)
        frame = data.attributes[3:4].rename({"price": "item_price"}).with_columns(pl.lit(3).alias("item_id"))
        equal(found, tables.space.transform(frame))


@settings(deadline=None, max_examples=100)
@given(st.lists(VALUES, min_size=2, max_size=2))
def test_no_context_makes_it_fail(world, values):
    tables = world[2]
    found = tables.pairs(Queries(Jagged.empty(2), 1, context={"timestamp": values}), Jagged.from_rows([[0], [1]]))
    assert np.isfinite(found.numbers_BF).all()
    assert (found.categories_BF >= 0).all() and (found.categories_BF < np.array(tables.space.layout.sizes)).all()


def test_stored_tables_answer_alike(world):
    data, examples, tables = world
    stored = FeatureTables.load(tables.config(), tables.parts())
    equal(
        stored.pairs(*asked(data, examples.sample("test", 50))), tables.pairs(*asked(data, examples.sample("test", 50)))
    )
    assert (stored.num_users, stored.num_items) == (30, 40)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda parts: parts.pop("user_features"),
        lambda parts: parts["features"].pop("item_codes"),
        lambda parts: parts["features"].update(item_codes=np.full(40, 99, np.int32)),
        lambda parts: parts["item_features"].update(numbers=parts["item_features"]["numbers"][:-1]),
        lambda parts: parts["item_features"].update(categories=parts["item_features"]["categories"] + 99),
        lambda parts: parts["item_features"].update({"list.0.values": parts["item_features"]["list.0.values"] + 99}),
        lambda parts: parts["item_features"].update({"list.0.offsets": parts["item_features"]["list.0.offsets"] + 1}),
        lambda parts: parts["user_features"].update(parts["item_features"]),
    ],
)
def test_an_edited_bundle_is_refused(world, spoil):
    tables = world[2]
    parts = {stem: dict(arrays) for stem, arrays in tables.parts().items()}
    spoil(parts)
    with pytest.raises(BundleError, match="make it again"):
        FeatureTables.load(tables.config(), parts)


def test_known_users_and_items_are_answered_without_polars(world, tmp_path):
    tables = world[2]
    for stem, arrays in tables.parts().items():
        write_tensors(tmp_path / f"{stem}.safetensors", arrays)
    (tmp_path / "config.json").write_text(json.dumps(tables.config()))
    script = (
        "import json, pathlib, sys\n"
        "import numpy as np\n"
        "from leanrec.core.jagged import Jagged\n"
        "from leanrec.core.nouns import Queries\n"
        "from leanrec.core.tensors import map_tensors\n"
        "from leanrec.features.tables import FeatureTables\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "parts = {file.stem: map_tensors(file) for file in folder.glob('*.safetensors')}\n"
        "tables = FeatureTables.load(json.loads((folder / 'config.json').read_text()), parts)\n"
        "users = np.array([3], np.int32)\n"
        "found = tables.pairs(Queries(Jagged.from_rows([[1, 2]]), 1, users=users), Jagged.from_rows([[0, 5]]))\n"
        "assert len(found) == 2\n"
        "assert 'polars' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=120)
