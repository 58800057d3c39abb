"""Bad data ends in one sentence that names file, column and row, or in a documented repair with a count."""

import datetime as dt
import errno
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError, MachineError
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare


def table(**columns):
    return pl.DataFrame(columns, strict=False)


def prepared(**columns):
    return prepare(table(**columns))


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


# Empty, truncated, wrong


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl", "arrow", "inter"])
def test_empty_files(tmp_path, ending):
    file = tmp_path / f"log.{ending}"
    file.touch()
    with pytest.raises(InputError, match=rf"log.{ending} is empty"):
        prepare(file)


def test_headers_without_rows(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n")
    with pytest.raises(InputError, match=r"log.csv"):
        prepare(tmp_path / "log.csv")
    table(user_id=[], item_id=[], timestamp=[]).cast(pl.Int64).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(InputError, match=r"log.parquet holds no rows"):
        prepare(tmp_path / "log.parquet")


@pytest.mark.parametrize("ending", ["parquet", "arrow", "jsonl"])
def test_truncated_files(tmp_path, ending):
    file = tmp_path / f"log.{ending}"
    frame = table(user_id=range(1000), item_id=range(1000), timestamp=range(1000))
    {"parquet": frame.write_parquet, "arrow": frame.write_ipc, "jsonl": frame.write_ndjson}[ending](file)
    content = file.read_bytes()
    for keep in (5, len(content) // 2, len(content) - 3):
        file.write_bytes(content[:keep])
        with pytest.raises(InputError, match=f"log.{ending}"):
            prepare(file)


def test_a_broken_file_among_many_is_named(tmp_path):
    for part in range(3):
        table(user_id=[part], item_id=[part], timestamp=[part]).write_parquet(tmp_path / f"part-{part}.parquet")
    (tmp_path / "part-1.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(InputError, match=r"part-1.parquet cannot be read") as error:
        prepare(tmp_path)
    one_sentence(error)


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "jsonl"])
def test_damaged_bytes_are_read_or_refused(tmp_path, ending):
    """Anywhere, and in the last bytes, where Parquet and Arrow say how many rows there are."""
    frame = table(user_id=[f"u{n % 7}" for n in range(200)], item_id=range(200), timestamp=range(200))
    file = tmp_path / f"log.{ending}"
    write = {"parquet": "write_parquet", "arrow": "write_ipc", "csv": "write_csv", "jsonl": "write_ndjson"}[ending]
    getattr(frame, write)(file)
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    refused = []
    for turn in range(100):
        content = bytearray(whole)
        places = random.integers(0, len(whole), 3) if turn % 2 else len(whole) - 1 - random.integers(0, 600, 1)
        for place in places:
            content[place] = random.choice([0, 127, 128, 255])
        file.write_bytes(content)
        try:
            assert len(prepare(file).interactions) <= 400
        except InputError as error:
            refused.append(str(error))
    assert refused
    assert not any("\n" in message for message in refused)


def test_files_of_another_kind(tmp_path):
    file = tmp_path / "log.parquet"
    file.write_bytes(os.urandom(4096))
    with pytest.raises(InputError, match=r"log.parquet cannot be read"):
        prepare(file)
    file = tmp_path / "log.csv"
    file.write_bytes(b"user_id,item_id\n\xff\xfe\x00,\xc3\x28\n" * 3)
    with pytest.raises(InputError, match=r"log.csv"):
        prepare(file)
    file = tmp_path / "log.jsonl"
    file.write_text('{"user_id": 1, "item_id": 2}\n[1, 2\n')
    with pytest.raises(InputError, match=r"log.jsonl"):
        prepare(file)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [True, False], "must be whole numbers or text, not Boolean"),
        ("item_id", [dt.date(2020, 1, 1)] * 2, "must be whole numbers or text, not Date"),
        ("item_id", [[1], [2]], r"must be whole numbers or text, not List"),
        ("user_id", [None, None], "'user_id' holds no id in any row"),
        ("user_id", [1.0, 2.5], r"row 2: the id 2.5 in the column 'user_id' is no whole number"),
        ("user_id", [1.0, float("inf")], r"row 2: the id inf"),
        ("user_id", [1.0, 1e17], r"row 2: the id 1e\+17"),
        ("timestamp", [True, False], "times in the column 'timestamp' must be numbers, dates or text, not Boolean"),
        ("rating", [[1], [2]], "values in the column 'rating' must be numbers"),
    ],
)
def test_wrong_types(column, values, message):
    columns = {"user_id": [1, 1], "item_id": [1, 2], "timestamp": [1, 2], "rating": [1.0, 2.0], column: values}
    with pytest.raises(InputError, match=message) as error:
        prepared(**columns)
    one_sentence(error)


def test_mixed_ids_are_refused_by_name():
    pandas = pytest.importorskip("pandas")
    mixed = pandas.DataFrame({"user_id": [1, "a"], "item_id": [1, 2], "timestamp": [1, 2]})
    with pytest.raises(InputError, match="column 'user_id' mixes int and str"):
        prepare(mixed)


def test_mixed_ids_in_json(tmp_path):
    file = tmp_path / "log.jsonl"
    rows = [{"user_id": n, "item_id": n % 5, "timestamp": n} for n in range(20_000)]
    rows[15_000]["user_id"] = "anna"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"log.jsonl"):
        prepare(file)


def test_numbers_beyond_64_bits():
    with pytest.raises(InputError, match="row 2: the id 18446744073709551615 in 'user_id' does not fit 64 bits"):
        prepared(user_id=pl.Series([1, 2**64 - 1], dtype=pl.UInt64), item_id=[1, 2], timestamp=[1, 2])


def test_ids_of_ten_kilobytes():
    with pytest.raises(InputError, match=r"row 2: the id in the column 'item_id' has 10,000 bytes, more than 4,096"):
        prepared(user_id=[1, 1], item_id=["a", "b" * 10_000], timestamp=[1, 2])


# Rows that are dropped


def test_rows_without_ids_are_dropped_and_counted():
    data = prepared(user_id=[1.0, float("nan"), None, 2.0], item_id=["a", "b", "c", ""], timestamp=[1, 2, 3, 4])
    assert data.report.dropped == {"no user_id": 2, "no item_id": 1}
    assert data.report.repaired == {"user_id came as decimal numbers, read as whole numbers": 2}
    assert data.users.ids() == [1]
    assert type(data.users.ids()[0]) is int


def test_impossible_times_are_dropped_and_counted():
    ahead = time.time() + 10 * 86_400
    moments = [0, -5, None, float("nan"), ahead, 4e10, 5.0, float("inf")]
    data = prepared(user_id=[1] * 8, item_id=list(range(8)), timestamp=moments)
    assert data.items.ids() == [0, 6]
    assert data.report.dropped == {
        "no readable timestamp": 2,
        "timestamp before 1970": 1,
        "timestamp in the future": 3,
    }


def test_nothing_left():
    with pytest.raises(InputError, match=r"no event is left of 2 rows after cleaning \(1 no user_id, 1 no item_id\)"):
        prepared(user_id=[None, 1], item_id=[1, None], timestamp=[1, 2])
    with pytest.raises(InputError, match="2 no readable timestamp"):
        prepared(user_id=[1, 1], item_id=[1, 2], timestamp=["soon", "later"])


# Repairs

SECONDS = [1_600_000_000.0, 1_600_000_060.0, 1_600_000_120.5]


@pytest.mark.parametrize(
    ("times", "repair"),
    [
        (SECONDS, None),
        ([1e3 * s for s in SECONDS], "timestamp came in milliseconds"),
        ([int(1e6 * s) for s in SECONDS], "timestamp came in microseconds"),
        ([int(s * 10) * 10**8 for s in SECONDS], "timestamp came in nanoseconds"),
        ([str(s) for s in SECONDS], "timestamp came as text, read as numbers"),
        (
            ["2020-09-13T12:26:40Z", "2020-09-13 12:27:40", "2020-09-13T14:28:40.5+02:00"],
            "timestamp came as text, read as ISO dates in UTC",
        ),
        (
            [dt.datetime.fromtimestamp(s, dt.UTC).replace(tzinfo=None) for s in SECONDS],
            "timestamp came as dates, read as UTC",
        ),
    ],
)
def test_times_in_other_forms_are_repaired(times, repair):
    data = prepared(user_id=[1] * 3, item_id=[1, 2, 3], timestamp=times)
    assert data.interactions.times.tolist() == SECONDS
    assert data.report.repaired == ({} if repair is None else {repair: 3})
    assert data.report.dropped == {}


def test_dates_are_days():
    for days in ([dt.date(2020, 1, 1), dt.date(2020, 1, 2)], ["2020-01-01", "2020-01-02"]):
        data = prepared(user_id=[1, 1], item_id=[1, 2], timestamp=days)
        assert data.interactions.times.tolist() == [1577836800.0, 1577923200.0]


def test_times_with_a_zone_keep_their_moment():
    zoned = (
        pl.Series([SECONDS[0] * 1e6]).cast(pl.Int64).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone("Asia/Tokyo")
    )
    assert prepared(user_id=[1], item_id=[1], timestamp=zoned).interactions.times.tolist() == SECONDS[:1]


def test_milliseconds_as_text_among_readable_and_unreadable():
    data = prepared(user_id=[1] * 3, item_id=[1, 2, 3], timestamp=["1600000000000", "2020-09-13", "yesterday"])
    assert sorted(data.interactions.times.tolist()) == [1599955200.0, 1_600_000_000.0]
    assert data.report.repaired["timestamp came in milliseconds"] == 1
    assert data.report.dropped == {"no readable timestamp": 1}


def test_values_that_are_no_numbers():
    data = prepared(user_id=[1] * 3, item_id=[1, 2, 3], timestamp=[1, 2, 3], rating=["4.5", "good", None])
    assert np.array_equal(data.interactions.values, [4.5, np.nan, np.nan], equal_nan=True)
    assert data.report.repaired == {"rating is no number, taken as missing": 1}


def test_order_must_be_a_number_in_every_row():
    columns = {"user_id": [1, 1], "item_id": [1, 2]}
    with pytest.raises(InputError, match=r"row 2: None in the column 'pos' cannot order events"):
        prepare(table(**columns, pos=[1, None]), order_by="pos")
    with pytest.raises(InputError, match=r"row 1: 'first' in the column 'pos'"):
        prepare(table(**columns, pos=["first", "2"]), order_by="pos")


# Extremes


def test_one_user_one_item():
    data = prepared(user_id=["u"], item_id=["i"], timestamp=[1])
    assert (len(data.users), len(data.items), len(data.interactions)) == (1, 1, 1)
    assert len(data.cases("test")) == 0
    assert "no event is left to test on" in str(data.report)
    many = prepared(user_id=["u"] * 4, item_id=["i"] * 4, timestamp=[4, 3, 2, 1])
    assert len(many.cases("test")) == 1


def test_new_users_and_items_at_test_time():
    users, items = [1] * 8 + [2, 2], [1, 2, 3, 4, 5, 6, 7, 8, 9, 1]
    data = prepare(table(user_id=users, item_id=items, timestamp=range(10)), split="time:0.7,0.1,0.2")
    cases = data.cases("test")
    assert data.users.ids(cases.users) == [2]
    assert cases.histories.lengths.tolist() == [0]
    assert data.items.ids(cases.targets[0]) == [9, 1]


def test_unsorted_rows_give_the_same_data():
    log = table(user_id=[1, 2, 1, 2], item_id=[1, 2, 3, 4], timestamp=[4, 3, 2, 1])
    assert prepare(log[::-1]).fingerprint == prepare(log).fingerprint


# A data set on disk


@pytest.fixture
def saved(tmp_path):
    data = prepared(user_id=[1, 1, 1, 2], item_id=["a", "b", "c", "a"], timestamp=[1, 2, 3, 4], rating=[1, 2, 3, 4])
    data.save(tmp_path / "data")
    return tmp_path / "data"


def test_a_folder_that_is_none(tmp_path, saved):
    with pytest.raises(InputError, match="is not a prepared data set: make one with"):
        Dataset.load(tmp_path / "absent")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(InputError, match="is not a prepared data set: choose another folder"):
        Dataset.load(saved).save(tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


@pytest.mark.parametrize("file", ["users.safetensors", "items.safetensors", "interactions.safetensors"])
def test_missing_and_truncated_parts(saved, file):
    content = (saved / file).read_bytes()
    for keep in (0, 4, len(content) // 2, len(content) - 1):
        (saved / file).write_bytes(content[:keep])
        with pytest.raises(InputError, match=rf"the data set .* is broken \(.*{file}.*\): prepare it again") as error:
            Dataset.load(saved)
        one_sentence(error)
    (saved / file).unlink()
    with pytest.raises(InputError, match=rf"{file} is missing"):
        Dataset.load(saved)


def edited_header(content, change):
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    fresh = json.dumps(header).encode()
    return len(fresh).to_bytes(8, "little") + fresh + content[8 + size :]


@pytest.mark.parametrize("claim", [10**9, 2**61, -1])
def test_headers_that_lie_about_size(saved, claim):
    file = saved / "interactions.safetensors"
    file.write_bytes(edited_header(file.read_bytes(), lambda header: header["items"].update(shape=[claim])))
    with pytest.raises(InputError, match="is broken"):
        Dataset.load(saved)


def test_a_json_that_lies_about_size(saved):
    file = saved / "dataset.json"
    honest = json.loads(file.read_text())
    for key in ("users", "items", "events"):
        file.write_text(json.dumps({**honest, key: 10**9}))
        with pytest.raises(InputError, match="is broken"):
            Dataset.load(saved)
    file.write_text(json.dumps({**honest, "format": 99}))
    with pytest.raises(InputError, match="has format 99, this version reads 1"):
        Dataset.load(saved)
    for content in ("", "{", "[]", '{"format": "one"}', "\x00"):
        file.write_text(content)
        with pytest.raises(InputError, match=r"dataset.json is broken"):
            Dataset.load(saved)


def test_rows_out_of_range(saved):
    file = saved / "interactions.safetensors"
    content = bytearray(file.read_bytes())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    start = 8 + int.from_bytes(content[:8], "little") + header["items"]["data_offsets"][0]
    content[start : start + 4] = (999).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(InputError, match="an item row or split label is out of range"):
        Dataset.load(saved)


def test_attributes_of_another_length(saved):
    pl.DataFrame({"item_id": ["a"]}).write_parquet(saved / "items.parquet")
    with pytest.raises(InputError, match=r"items.parquet has 1 rows, not 3"):
        Dataset.load(saved)


# A full disk


@pytest.mark.parametrize(("where", "call"), [(os, "fsync"), (Path, "write_bytes"), (tempfile, "mkdtemp")])
def test_a_disk_that_fills_up_leaves_the_old_data(saved, monkeypatch, where, call):
    before = Dataset.load(saved).fingerprint
    fresh = prepared(user_id=[5], item_id=["z"], timestamp=[1])

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(where, call, full)
        with pytest.raises(MachineError, match="no space left on the disk that holds"):
            fresh.save(saved)
    assert Dataset.load(saved).fingerprint == before
    assert [p.name for p in saved.parent.iterdir()] == ["data"]


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a small tmpfs needs root")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_really_full_disk(small_disk):
    n = 20_000
    log = table(user_id=np.arange(n) % 500, item_id=np.arange(n) % 700, timestamp=np.arange(n))
    with pytest.raises(MachineError, match="no space left on the disk that holds"):
        prepare(log, out=small_disk / "data")
    assert list(small_disk.iterdir()) == []


def test_a_really_full_disk_while_writing_attributes(small_disk):
    n = 1_000
    log = table(user_id=np.arange(n) % 50, item_id=np.arange(n), timestamp=np.arange(n))
    titles = [os.urandom(64).hex() for _ in range(n)]
    with pytest.raises(MachineError, match="no space left on the disk that holds"):
        prepare(log, items=table(item_id=np.arange(n), title=titles), out=small_disk / "data")
    assert list(small_disk.iterdir()) == []
