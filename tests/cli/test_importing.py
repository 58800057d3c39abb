"""`leanrec import` as a person meets it."""

from __future__ import annotations

import numpy as np

from leanrec.data.dataset import Dataset


def test_an_imported_model_is_evaluated_like_any_other(leanrec, data_folder, tmp_path):
    data, rng = Dataset.load(data_folder), np.random.default_rng(0)
    np.savez(
        tmp_path / "als.npz",
        user_factors=rng.normal(size=(len(data.users), 4)).astype(np.float32),
        item_factors=rng.normal(size=(len(data.items), 4)).astype(np.float32),
        alpha=1.0,
        regularization=0.01,
    )
    out = tmp_path / "bundle"
    done = leanrec("import", "implicit", tmp_path / "als.npz", "--data", data_folder, "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["items"] == len(data.items)
    found = leanrec("evaluate", out, "--data", data_folder, "--json")
    assert found.code == 0, found.err
    assert found.json["results"][0]["users"] > 0
    assert leanrec("verify", out).code == 0


def test_what_cannot_be_imported_is_refused(leanrec, tmp_path):
    leanrec("import", "implicit", tmp_path / "no.npz", "--out", tmp_path / "b").refused(2, "no.npz is not a file")
    leanrec("import", "implicitt", tmp_path / "no.npz", "--out", tmp_path / "b").refused(2, "did you mean 'implicit'")
    leanrec("import", "torch", tmp_path / "no.npz", "--out", tmp_path / "b").refused(2, "items")
