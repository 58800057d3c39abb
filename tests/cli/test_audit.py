"""`leanrec audit` as a person meets it."""

from __future__ import annotations

import polars as pl

from tests.tiny import tiny_log


def test_clean_data_and_our_own_answers(leanrec, data_folder, popular_run, tmp_path):
    table = tmp_path / "recommendations.parquet"
    assert leanrec("recommend", popular_run, "--all", "--out", table).code == 0
    found = leanrec("audit", data_folder, table, "--strict", "--json")
    assert found.code == 0, found.err
    assert found.json["clean"] is True
    assert found.json["findings"] == []
    assert len(found.json["checks"]) > 20
    asked = leanrec("audit", data_folder, popular_run, "--k", 10, "--strict", "--json")
    assert asked.code == 0, asked.err
    assert asked.json["checks"] == found.json["checks"]


def test_a_finding_is_listed_and_strict_ends_with_4(leanrec, tmp_path):
    log = tiny_log().with_columns(split=pl.lit("train"))
    log.write_parquet(tmp_path / "log.parquet")
    found = leanrec("audit", tmp_path / "log.parquet", "--json")
    assert found.code == 0
    assert {one["kind"] for one in found.json["findings"]} == {"nothing-held-out"}
    assert "nothing-held-out: there are no test events" in leanrec("audit", tmp_path / "log.parquet").out
    leanrec("audit", tmp_path / "log.parquet", "--strict").refused(4, "the audit found", "nothing-held-out")


def test_what_is_not_there_is_refused(leanrec, data_folder, tmp_path):
    leanrec("audit", tmp_path / "none.parquet").refused(2, "does not exist")
    leanrec("audit", data_folder, tmp_path / "none.parquet").refused(2, "does not exist")
    tiny_log().write_parquet(tmp_path / "log.parquet")
    leanrec("audit", tmp_path / "log.parquet", "--split-col", "part").refused(2, "no column 'part'")
