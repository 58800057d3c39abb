"""The same log from every kind of source gives the same data set."""

import gzip
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import InputError
from leanrec.data import ingest
from leanrec.data.prepare import prepare
from leanrec.data.readers import open_events
from tests.data.logs import LOGS, frame

LOG = pl.DataFrame(
    {
        "user_id": [3, 1, 1, 2, 3, 1],
        "item_id": ["x", "y", "z", "x", "y", "x"],
        "timestamp": [50, 10, 20, 30, 40, 60],
        "rating": [1.0, 2.0, 3.0, 4.0, 5.0, 1.5],
    }
)
EXPECTED = prepare(LOG)


def same(source, **options):
    data = prepare(source, **options)
    assert data.fingerprint == EXPECTED.fingerprint
    assert data.users.ids() == [1, 2, 3]
    assert data.items.ids() == ["x", "y", "z"]
    return data


def test_parquet_csv_tsv_json_arrow(tmp_path):
    LOG.write_parquet(tmp_path / "a.parquet")
    LOG.write_csv(tmp_path / "a.csv")
    LOG.write_csv(tmp_path / "semicolon.csv", separator=";")
    LOG.write_csv(tmp_path / "a.tsv", separator="\t")
    LOG.write_ndjson(tmp_path / "a.jsonl")
    LOG.write_ipc(tmp_path / "a.arrow")
    LOG.write_ipc(tmp_path / "a.feather", compression="zstd")
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    for file in tmp_path.iterdir():
        assert same(file).name == file.name.split(".")[0]
        same(str(file))


def test_recbole(tmp_path):
    file = tmp_path / "log.inter"
    LOG.select("user_id", "item_id", "rating", "timestamp").write_csv(file, separator="\t")
    text = file.read_text()
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    file.write_text(header + text[text.index("\n") :])
    same(file)


def test_globs_and_folders_read_in_order_of_name(tmp_path):
    LOG[:2].write_parquet(tmp_path / "part-0.parquet")
    LOG[2:].write_parquet(tmp_path / "part-1.parquet")
    same(tmp_path)
    same(f"{tmp_path}/part-*.parquet")
    assert open_events(tmp_path).frame.collect().equals(LOG)


def test_a_folder_with_interactions_is_read_for_them(tmp_path):
    LOG.write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "meta.json").write_text("{}")
    (tmp_path / "README.md").write_text("about")
    same(tmp_path)


@pytest.mark.parametrize("kind", ["polars", "lazy", "pandas", "pyarrow", "dict"])
def test_frames(kind):
    if kind == "polars":
        same(LOG)
    elif kind == "lazy":
        same(LOG.lazy())
    elif kind == "pandas":
        same(pytest.importorskip("pandas").DataFrame(LOG.to_dict(as_series=False)))
    elif kind == "pyarrow":
        same(pytest.importorskip("pyarrow").table(LOG.to_dict(as_series=False)))
    else:
        same(LOG.to_dict(as_series=False))


def test_duckdb(tmp_path):
    """In a process of its own, whose end DuckDB comments on."""
    pytest.importorskip("duckdb")
    LOG.write_parquet(tmp_path / "log.parquet")
    code = (
        "import duckdb; from leanrec.data.prepare import prepare; "
        f"print(prepare(duckdb.sql(\"select * from '{tmp_path}/log.parquet'\")).fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == EXPECTED.fingerprint


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.csr_matrix(np.array([[0, 2.0, 1.0], [0, 0, 0], [3.0, 0, 0]]))
    data = prepare(matrix, split="random:0.5,0,0.5")
    assert data.users.ids() == [0, 2]
    assert data.items.ids() == [0, 1, 2]
    assert sorted(data.interactions.values.tolist()) == [1, 2, 3]
    with pytest.raises(InputError, match="the matrix: split 'leave-one-out' needs the order"):
        prepare(matrix)


def test_columns_of_other_names(tmp_path):
    renamed = LOG.rename({"user_id": "Kunde", "item_id": "Ware", "timestamp": "Zeit", "rating": "Menge"})
    names = {"user_col": "Kunde", "item_col": "Ware", "time_col": "Zeit", "value_col": "Menge"}
    assert same(renamed, **names).report.columns == {"user": "Kunde", "item": "Ware", "time": "Zeit", "value": "Menge"}
    same(LOG.rename({"user_id": "userId", "item_id": "movieId"}))
    file = tmp_path / "sales.csv"
    renamed.write_csv(file)
    with pytest.raises(InputError) as error:
        prepare(file, user_col="Kunda")
    assert str(error.value) == (
        f"{file} has no column 'Kunda' (did you mean 'Kunde'?); it has: Kunde, Ware, Zeit, Menge; "
        f"choose another for --user-col"
    )
    with pytest.raises(InputError, match=r"sales.csv has no column 'user_id'; it has: .*; name yours with --user-col"):
        prepare(file)


def test_numbers_with_leading_zeros_stay_text(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("user_id,item_id,timestamp\n007,1,5\n7,1,6\n")
    assert prepare(file).users.ids() == ["007", "7"]


def test_ids_that_turn_out_to_be_text(tmp_path):
    file = tmp_path / "log.csv"
    rows = "".join(f"{n},{n % 7},{n}\n" for n in range(1, 12_000))
    file.write_text(f"user_id,item_id,timestamp\n{rows}anna,3,5\n")
    data = prepare(file)
    assert data.users.row("anna") >= 0
    assert data.users.row("11") >= 0
    assert len(data.interactions) == 12_000
    assert data.report.rows_read == 12_000
    assert any("read as text" in note for note in data.report.notes)


def test_recbole_ids_that_turn_out_to_be_text(tmp_path):
    file = tmp_path / "log.inter"
    rows = "".join(f"{n}\t{n % 7}\t{n}\n" for n in range(1, 12_000))
    file.write_text(f"user_id:token\titem_id:token\ttimestamp:float\n{rows}anna\t3\t5\n")
    assert prepare(file).users.row("anna") >= 0
    file.write_text("user_id:token\titem_id:token\ttimestamp:float\n01\t1\t5\n1\t1\t6\n")
    assert prepare(file).users.ids() == ["01", "1"]


def test_numbers_far_apart_and_negative():
    ids = [2**62, -(2**62), 5, -7]
    log = pl.DataFrame({"user_id": ids, "item_id": ids[::-1], "timestamp": [1, 2, 3, 4]})
    data = prepare(log)
    assert data.users.ids() == data.items.ids() == sorted(ids)
    assert [data.items.ids(row) for row in data.interactions.items] == [[5], [2**62], [-(2**62)], [-7]]


def test_pandas_columns_of_objects():
    pandas = pytest.importorskip("pandas")
    objects = pandas.DataFrame({"user_id": ["a", None, "b"], "item_id": [1, 2, float("nan")], "timestamp": [1, 2, 3]})
    for source in (objects, objects.astype({"user_id": object, "item_id": object})):
        data = prepare(source)
        assert data.users.ids() == ["a"]
        assert data.items.ids() == [1]
        assert data.report.dropped == {"no user_id": 1, "no item_id": 1}


def test_a_frame_that_cannot_be_read():
    class Broken:
        def __arrow_c_stream__(self, requested_schema=None):
            raise RuntimeError("gone\nfor good")

    with pytest.raises(InputError, match=r"cannot be read through Arrow \(gone\)"):
        prepare(Broken())


@given(LOGS, st.integers(1, 7))
@settings(deadline=None, max_examples=20)
def test_batches_make_no_difference(log, size):
    whole = prepare(frame(log, text=True))
    original, ingest._BATCH = ingest._BATCH, size
    try:
        assert prepare(frame(log, text=True)).fingerprint == whole.fingerprint
    finally:
        ingest._BATCH = original


def test_rows_are_counted_across_batches(monkeypatch):
    monkeypatch.setattr(ingest, "_BATCH", 2)
    log = pl.DataFrame({"user_id": [1.0] * 6 + [1.5], "item_id": range(7), "timestamp": range(7)})
    with pytest.raises(InputError, match=r"row 7: the id 1.5"):
        prepare(log)


def test_other_things_are_refused(tmp_path):
    with pytest.raises(InputError, match="not int"):
        prepare(3)
    with pytest.raises(InputError, match=r"nothing.parquet does not exist"):
        prepare(tmp_path / "nothing.parquet")
    with pytest.raises(InputError, match="no file matches"):
        prepare(f"{tmp_path}/*.csv")
    with pytest.raises(InputError, match="holds no Parquet"):
        prepare(tmp_path)
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(InputError, match=r"a.xlsx has no known ending"):
        prepare(tmp_path / "a.xlsx")
    LOG.write_csv(tmp_path / "a.csv")
    LOG.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"mixes formats \(csv, parquet\)"):
        prepare(tmp_path)
