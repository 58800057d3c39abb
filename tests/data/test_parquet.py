"""Parquet files of every writer are accepted; those whose headers lie are refused before they are read."""

import mmap

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.data.parquet import _Thrift, check_parquet
from leanrec.data.prepare import prepare

ROWS = 200


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "log.parquet"
    frame = pl.DataFrame(
        {"user_id": [f"u{n % 7}" for n in range(ROWS)], "item_id": range(ROWS), "timestamp": range(ROWS)}
    )
    frame.write_parquet(file)
    return file


def varint(number):
    zigzag, result = number << 1 if number >= 0 else (-number << 1) - 1, b""
    while zigzag > 127:
        result, zigzag = result + bytes([zigzag & 127 | 128]), zigzag >> 7
    return result + bytes([zigzag])


def footer_of(content):
    length = int.from_bytes(content[-8:-4], "little")
    return content[: -8 - length], content[-8 - length : -8]


@pytest.mark.parametrize("claim", [10**9, 2**40, -1, ROWS + 1])
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_footer_that_lies_about_rows(file, claim, everywhere):
    pages, footer = footer_of(file.read_bytes())
    assert footer.count(varint(ROWS)) >= 5
    footer = footer.replace(varint(ROWS), varint(claim), -1 if everywhere else 1)
    file.write_bytes(pages + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match=r"log.parquet cannot be read \(.*\): is it complete"):
        prepare(file)


@pytest.mark.parametrize("claim", [-1, -(2**12), 2**12])
def test_a_page_that_lies_about_values(file, claim):
    pages, footer = footer_of(file.read_bytes())
    fake = varint(claim)
    if len(fake) != 2:
        fake = bytes([fake[0] | 128, 0])
    file.write_bytes(pages.replace(varint(ROWS), fake) + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match=r"headers contradict"):
        check_parquet(file)


@pytest.mark.parametrize("content", [b"", b"PAR1PAR1", b"PAR1" + bytes(20), b"PAR1" + b"\xff\xff\xff\x7fPAR1"])
def test_files_that_are_none(file, content):
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"log.parquet (cannot be read|is empty)"):
        check_parquet(file)


def test_only_the_columns_that_are_read_matter(file):
    pages, footer = footer_of(file.read_bytes())
    last = thrift(footer).struct()[4][0][1][-1][3]  # row groups, columns, meta data
    start = pages.index(varint(ROWS), last[9])  # its data page
    pages = pages[:start] + b"\x81\x00" + pages[start + 2 :]
    file.write_bytes(pages + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    check_parquet(file, {"user_id", "item_id"})
    with pytest.raises(InputError):
        check_parquet(file, {"timestamp"})


@pytest.mark.parametrize("version", ["1.0", "2.6"])
@pytest.mark.parametrize("pages", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_what_arrow_writes(tmp_path, version, pages, compression):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    count = 30_000
    table = pyarrow.table(
        {
            "number": np.arange(count) % 999,
            "text": [None if n % 3 else f"x{n % 50}" for n in range(count)],
            "list": [[n] * (n % 4) for n in range(count)],
            "struct": [{"a": n, "b": None} for n in range(count)],
            "nothing": pyarrow.nulls(count),
        }
    )
    for rows in (table, table[:1], table[:0]):
        parquet.write_table(
            rows, tmp_path / "a.parquet", version=version, data_page_version=pages, compression=compression,
            row_group_size=7_000, write_page_index=True, data_page_size=4_096,
        )  # fmt: skip
        check_parquet(tmp_path / "a.parquet")


def test_what_polars_writes(tmp_path):
    frame = pl.DataFrame({"a": range(5_000), "b": [[1, 2]] * 5_000, "c": ["x"] * 5_000, "d": [None] * 5_000})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=1_000, data_page_size=512)
    check_parquet(tmp_path / "a.parquet")


def thrift(content):
    mapped = mmap.mmap(-1, max(len(content), 1))
    mapped.write(content)
    return _Thrift(mapped, 0)


def test_thrift_that_never_ends():
    for content in (
        b"\x1c" * 100,
        b"\x15" + b"\xff" * 20,
        b"\x19\xfc\xff\xff\xff\xff\x0f",
        b"\x18\xff\xff\x7f",
        b"\x1f",
    ):
        with pytest.raises((ValueError, IndexError)):
            thrift(content).struct()
