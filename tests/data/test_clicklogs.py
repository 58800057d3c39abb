"""Criteo's and Avazu's logs: every field as a plain reading gives it, in a stream, and broken files in one sentence."""

from __future__ import annotations

import csv
import datetime as dt

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.data.examples import prepare as preparing
from leanrec.data.examples.base import PARTS
from leanrec.data.examples.prepare import prepare_examples
from leanrec.data.examples.stored import StoredExamples, holds_examples
from leanrec.features.space import FeatureSpace
from tests.data.clicklogs import write_avazu, write_criteo

ROWS = 2_000


def read(examples, part, **options):
    return pl.concat(list(examples.batches(part, 97, **options)))


def everything(examples):
    return pl.concat([read(examples, part) for part in PARTS if examples.rows(part)])


def test_every_field_of_criteo(tmp_path):
    file = tmp_path / "train.txt"
    write_criteo(file, ROWS)
    examples = prepare_examples(file, tmp_path / "data", format="criteo")
    expected = [line.rstrip("\n").split("\t") for line in file.read_text().splitlines()]
    names = ["label", *(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27))]
    found = everything(examples)
    assert found.columns == names and examples.labels == ("label",)
    rows = [["" if value is None else str(value) for value in row] for row in found.rows()]
    assert rows == expected
    assert [examples.rows(part) for part in PARTS] == [1600, 200, 200]
    assert {examples.kinds[f"I{n}"] for n in range(1, 14)} == {"number"}


def test_every_field_of_avazu(tmp_path):
    file = tmp_path / "train.csv"
    write_avazu(file, ROWS)
    examples = prepare_examples(file, tmp_path / "data", format="avazu", split="days:1,1")
    found = everything(examples)
    assert examples.labels == ("click",)
    with file.open() as lines:
        expected = list(csv.DictReader(lines))
    for row, given in zip(found.iter_rows(named=True), expected, strict=True):
        moment = dt.datetime.strptime(given.pop("hour"), "%y%m%d%H").replace(tzinfo=dt.UTC)
        given.pop("id")
        assert row.pop("timestamp") == moment.timestamp()
        assert {name: str(value) for name, value in row.items()} == given
    days = {
        part: {dt.datetime.fromtimestamp(t, dt.UTC).day for t in read(examples, part)["timestamp"]} for part in PARTS
    }
    assert days == {"train": {21, 22}, "valid": {23}, "test": {24}}


def test_rows_pass_by_in_small_pieces_and_are_counted(tmp_path, monkeypatch):
    write_criteo(tmp_path / "day_0", ROWS, seed=0)
    write_criteo(tmp_path / "day_1", ROWS, seed=1)
    sizes = []
    monkeypatch.setattr(preparing, "_BATCH", 256)
    writing = preparing.write_examples

    def watched(out, parts, **options):
        return writing(out, ((part, sizes.append(len(frame)) or frame) for part, frame in parts), **options)

    monkeypatch.setattr(preparing, "write_examples", watched)
    examples = prepare_examples(tmp_path / "day_*", tmp_path / "data", format="criteo")
    assert max(sizes) <= 256 and sum(sizes) == 2 * ROWS == examples.report.rows_read
    assert [examples.rows(part) for part in PARTS] == [3200, 400, 400]
    assert len(list((tmp_path / "data" / "train").iterdir())) >= 3200 // 256


@pytest.mark.parametrize("size", [1, 100, 1000, 10_000])
def test_stored_rows_come_in_any_size_and_shuffled(tmp_path, monkeypatch, size):
    write_criteo(tmp_path / "log", 700)
    monkeypatch.setattr(preparing, "_BATCH", 64)
    examples = prepare_examples(tmp_path / "log", tmp_path / "data", format="criteo")
    columns = ["C1", "I2", "C26"]
    plain = pl.concat(list(examples.batches("train", size, columns)))
    batches = list(examples.batches("train", size, columns, seed=3))
    mixed = pl.concat(batches)
    assert plain.columns == ["label", *columns] and all(len(batch) == size for batch in batches[:-1])
    key = ["label", *columns]
    assert plain.sort(key).equals(mixed.sort(key)) and not plain.equals(mixed)
    assert mixed.equals(pl.concat(list(examples.batches("train", size, columns, seed=3))))


def test_random_parts_depend_on_seed_and_place_alone(tmp_path, monkeypatch):
    write_criteo(tmp_path / "log", ROWS)
    one = prepare_examples(tmp_path / "log", tmp_path / "1", format="criteo", split="random:0.7,0.2,0.1", seed=5)
    monkeypatch.setattr(preparing, "_BATCH", 100)
    two = prepare_examples(tmp_path / "log", tmp_path / "2", format="criteo", split="random:0.7,0.2,0.1", seed=5)
    for part in PARTS:
        assert read(one, part).equals(read(two, part))
    assert abs(one.rows("train") - 0.7 * ROWS) < 100 and abs(one.rows("test") - 0.1 * ROWS) < 60


def test_a_share_of_the_training_negatives_is_kept_and_recorded(tmp_path):
    labels = write_criteo(tmp_path / "log", ROWS)
    examples = prepare_examples(tmp_path / "log", tmp_path / "data", format="criteo", keep_negatives=0.25, seed=1)
    train, no = read(examples, "train")["label"], int((labels[:1600] == 0).sum())
    assert examples.rate == 0.25 and int(train.sum()) == int(labels[:1600].sum())
    assert abs(int((train == 0).sum()) - 0.25 * no) < 4 * np.sqrt(no * 0.25 * 0.75)
    assert examples.rows("test") == 200 and sum(examples.report.dropped.values()) == 1600 - len(train)


def test_any_table_with_a_label(tmp_path):
    clicks = pl.DataFrame(
        {"clicked": [True, False] * 50, "position": list(range(50)) * 2, "page": ["a", "b", None, "d", "d"] * 20}
    )
    clicks.write_parquet(tmp_path / "log.parquet")
    examples = prepare_examples(tmp_path / "log.parquet", tmp_path / "data", format="table", label="clicked")
    assert everything(examples)["clicked"].to_list() == [1, 0] * 50
    kinds = {feature.name: feature.kind for feature in examples.report.features}
    assert kinds == {"position": "number", "page": "category"}


def test_features_learn_from_stored_rows(tmp_path):
    write_criteo(tmp_path / "log", ROWS)
    examples = prepare_examples(tmp_path / "log", tmp_path / "data", format="criteo")
    space = FeatureSpace.fit(StoredExamples.load(tmp_path / "data"))
    batch = space.transform(read(examples, "test"))
    assert len(space.layout.numbers) == 26 and len(space.layout.categories) == 26
    assert np.isfinite(batch.numbers_BF).all() and (batch.categories_BF.max(axis=0) > 0).all()


def criteo_with(tmp_path, line):
    write_criteo(tmp_path / "log", 50)
    with (tmp_path / "log").open("a") as file:
        file.write(line)
    return tmp_path / "log"


def test_rows_without_a_label_are_dropped_and_counted(tmp_path):
    file = criteo_with(tmp_path, "\t" * 39 + "\n" + "7" + "\t" * 39 + "\n")
    examples = prepare_examples(file, tmp_path / "data", format="criteo")
    assert examples.report.dropped == {"no label of 0 or 1": 2} and examples.report.events == 50


@pytest.mark.parametrize(
    ("line", "options", "words"),
    [
        ("1\tx" + "\t" * 38 + "\n", {}, "cannot be read"),
        ("1" + "\t" * 50 + "\n", {}, "cannot be read"),
        ("", {"format": "avazu"}, "no column 'click'"),
        ("", {"format": "cretio"}, "did you mean 'criteo'"),
        ("", {"format": "table"}, "--label COLUMN"),
        ("", {"label": "x"}, "no other"),
        ("", {"keep_negatives": 0.0}, "above 0"),
        ("", {"split": "days:1,1"}, "needs a column 'timestamp'"),
        ("", {"split": "ratio:0.8,0.1,0.1"}, "not for labelled rows"),
    ],
)
def test_a_wrong_file_or_question_is_one_sentence(tmp_path, line, options, words):
    file = criteo_with(tmp_path, line)
    with pytest.raises(InputError, match=words) as raised:
        prepare_examples(file, tmp_path / "data", **{"format": "criteo", **options})
    assert "\n" not in str(raised.value)
    assert not holds_examples(tmp_path / "data")


def test_no_file_and_an_empty_one(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        prepare_examples(tmp_path / "none", tmp_path / "data", format="criteo")
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="is empty"):
        prepare_examples(tmp_path / "empty", tmp_path / "data", format="criteo")
    with pytest.raises(InputError, match="holds no labelled rows"):
        StoredExamples.load(tmp_path)


def test_a_broken_folder_is_said_so(tmp_path):
    write_criteo(tmp_path / "log", 200)
    prepare_examples(tmp_path / "log", tmp_path / "data", format="criteo")
    file = tmp_path / "data" / "train" / "00000.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        list(StoredExamples.load(tmp_path / "data").batches("train", 10))
    file.unlink()
    with pytest.raises(InputError, match=r"00000.parquet is missing"):
        StoredExamples.load(tmp_path / "data")
    (tmp_path / "data" / "examples.json").write_text("{")
    with pytest.raises(InputError, match="is broken"):
        StoredExamples.load(tmp_path / "data")


def test_what_is_no_such_folder_is_not_replaced(tmp_path):
    write_criteo(tmp_path / "log", 50)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("dear")
    with pytest.raises(InputError, match="choose another folder"):
        prepare_examples(tmp_path / "log", tmp_path / "mine", format="criteo")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "dear"
