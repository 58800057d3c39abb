"""Models from elsewhere give the scores they gave there; nothing is unpickled; what does not fit is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from leanrec.core.errors import ConfigError, InputError
from leanrec.core.nouns import Request
from leanrec.core.tensors import write_tensors
from leanrec.evaluation.evaluate import evaluate
from leanrec.jobs.importing import ImportJob, import_model
from leanrec.models.sasrec import SASRec
from leanrec.runtime.recommender import Recommender

from ..models.worlds import shop

USERS, ITEMS, DIM = 30, 25, 6
RNG = np.random.default_rng(0)
USER_UD, ITEM_ND = (RNG.normal(size=(rows, DIM)).astype(np.float32) for rows in (USERS, ITEMS))
ROUNDING = {"rel": 1e-5, "abs": 1e-6}


def brought_in(kind, path, out, **options):
    """The recommender as it is loaded again from its bundle."""
    made = import_model(ImportJob(kind=kind, path=str(path), out=str(out), **options))
    loaded = Recommender.load(out)
    assert loaded.id == made.id
    return loaded


def scores(recommender, users, items):
    """(users, items) of known users."""
    asked = [Request(user_id=user) for user in users]
    return np.array(recommender.score(asked, [items] * len(users)))


def implicit_file(folder, **more):
    np.savez(folder / "model.npz", user_factors=USER_UD, item_factors=ITEM_ND, factors=DIM, iterations=15, **more)
    return folder / "model.npz"


def test_implicit_factors_score_as_they_did(tmp_path):
    model = brought_in("implicit", implicit_file(tmp_path, alpha=1.0, regularization=0.01), tmp_path / "bundle")
    expected = USER_UD.astype(np.float64) @ ITEM_ND.T.astype(np.float64)
    assert scores(model, range(USERS), list(range(ITEMS))) == pytest.approx(expected, **ROUNDING)
    best = model.recommend([3], k=5)["item_id"].to_list()
    assert best == np.argsort(-expected[3], kind="stable")[:5].tolist()


@pytest.mark.parametrize("alpha", [1.0, 40.0])
def test_implicit_folds_in_a_new_user_by_its_own_equation(alpha, tmp_path):
    path = implicit_file(tmp_path, alpha=alpha, regularization=0.05)
    model = brought_in("implicit", path, tmp_path / "bundle")
    history = [2, 7, 11]
    wide, own = ITEM_ND.astype(np.float64), ITEM_ND[history].astype(np.float64)
    left = wide.T @ wide + (alpha - 1) * own.T @ own + 0.05 * np.eye(DIM)
    expected = wide @ np.linalg.solve(left, alpha * own.sum(axis=0))
    if alpha > 1:
        expected *= (alpha - 1) / alpha
    found = model.score([Request(history=history)], [list(range(ITEMS))])[0]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_implicit_bpr_keeps_item_biases_for_new_users(tmp_path):
    users = USER_UD.copy()
    users[:, -1] = 1
    np.savez(tmp_path / "bpr.npz", user_factors=users, item_factors=ITEM_ND)
    model = brought_in("implicit", tmp_path / "bpr.npz", tmp_path / "bundle")
    vector = ITEM_ND[[1, 2]].mean(axis=0)
    vector[-1] = 1
    found = model.score([Request(history=[1, 2])], [list(range(ITEMS))])[0]
    assert found == pytest.approx(ITEM_ND @ vector, **ROUNDING)


@pytest.mark.parametrize("distance", ["dot", "cosine"])
def test_rectools_vectors_score_as_they_did(distance, tmp_path):
    users, items = [f"u{n}" for n in range(USERS)], [f"i{n}" for n in range(ITEMS)]
    np.savez(tmp_path / "m.npz", user_vectors=USER_UD, item_vectors=ITEM_ND, user_ids=users, item_ids=items)
    model = brought_in("rectools", tmp_path / "m.npz", tmp_path / "bundle", settings={"distance": distance})
    expected = USER_UD.astype(np.float64) @ ITEM_ND.T
    if distance == "cosine":
        expected /= np.linalg.norm(USER_UD, axis=1)[:, None] * np.linalg.norm(ITEM_ND, axis=1)
    assert scores(model, users, items) == pytest.approx(expected, **ROUNDING)


class Biased(nn.Module):
    """A matrix factorisation as tutorials write it, with a row of padding."""

    def __init__(self):
        super().__init__()
        self.user_embedding, self.item_embedding = nn.Embedding(USERS, DIM), nn.Embedding(ITEMS + 1, DIM)
        self.user_bias, self.item_bias = nn.Embedding(USERS, 1), nn.Embedding(ITEMS + 1, 1)
        self.mean = nn.Parameter(torch.tensor(3.5))

    def forward(self, users, items):
        dot = (self.user_embedding(users) * self.item_embedding(items)).sum(-1)
        return dot + self.user_bias(users).squeeze(-1) + self.item_bias(items).squeeze(-1) + self.mean


def saved(module, path):
    write_tensors(path, {name: value.detach().numpy() for name, value in module.state_dict().items()})
    return path


def test_a_torch_module_of_two_tables_scores_as_it_did(tmp_path):
    torch.manual_seed(0)
    module = Biased()
    names = {name: f"{name}.weight" for name in ("user_bias", "item_bias")}
    settings = {"items": "item_embedding.weight", "users": "user_embedding.weight", "mean": "mean", "skip": 1, **names}
    path = saved(module, tmp_path / "weights.safetensors")
    model = brought_in("torch", path, tmp_path / "bundle", settings=settings)
    users, items = torch.meshgrid(torch.arange(USERS), torch.arange(ITEMS), indexing="ij")
    expected = module(users, items + 1).detach().numpy()
    assert scores(model, range(USERS), list(range(ITEMS))) == pytest.approx(expected, **ROUNDING)


class Recurrent(nn.Module):
    """A GRU over item vectors, padded on the left nowhere: one history at a time."""

    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(ITEMS, 8)
        self.rnn = nn.GRU(8, 12, 2)
        self.head = nn.Linear(12, 8)
        self.last = nn.LayerNorm(8)

    def forward(self, history):
        states, _ = self.rnn(self.items(history) * 8**0.5)
        return self.last(self.head(states[-1])) @ self.items.weight.T


def test_a_torch_sequence_network_scores_as_it_did(tmp_path):
    torch.manual_seed(0)
    module = Recurrent()
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    names = {f"gru.{part}_l#": f"rnn.{part}_l#" for part in parts}
    names |= {f"{ours}.{part}": f"{theirs}.{part}"
              for ours, theirs in (("out", "head"), ("norm", "last")) for part in ("weight", "bias")}  # fmt: skip
    shape = {"dim": 8, "layers": 2, "hidden": 12, "max_length": 20}
    settings = {"items": "items.weight", "engine": "gru", "shape": shape, "names": names}
    path = saved(module, tmp_path / "weights.safetensors")
    model = brought_in("torch", path, tmp_path / "bundle", settings=settings)
    for history in ([1], [3, 1, 4, 1, 5]):
        found = model.score([Request(history=history)], [list(range(ITEMS))])[0]
        assert found == pytest.approx(module(torch.tensor(history)).detach().numpy(), rel=1e-4, abs=1e-4)


def test_our_own_network_under_other_names_scores_the_same(tmp_path):
    data = shop()
    fitted = SASRec(dim=8, layers=2, heads=2, epochs=1, max_length=20).fit(data)
    source = fitted.source
    arrays = {f"model.{name}": np.asarray(array) for name, array in source.engine.tensors().items()}
    write_tensors(tmp_path / "w.safetensors", {**arrays, "table": np.asarray(source.index.items_ND)})
    names = {name.replace(".0.", ".#."): f"model.{name.replace('.0.', '.#.')}"
             for name in source.engine.tensors() if ".1." not in name}  # fmt: skip
    data.save(tmp_path / "data")
    settings = {"items": "table", "engine": "transformer", "shape": source.engine.config(), "names": names}
    model = brought_in(
        "torch", tmp_path / "w.safetensors", tmp_path / "bundle", data=str(tmp_path / "data"), settings=settings
    )
    ours, theirs = (evaluate(one, data, k=5).rows[0].metrics for one in (model, fitted))
    assert ours == theirs


def test_ids_and_histories_come_from_the_data_set(tmp_path):
    data = shop(repeats=False)
    data.save(tmp_path / "data")
    rng = np.random.default_rng(1)
    users, items = (rng.normal(size=(len(ids), DIM)).astype(np.float32) for ids in (data.users, data.items))
    np.savez(tmp_path / "m.npz", user_factors=users, item_factors=items)
    model = brought_in("implicit", tmp_path / "m.npz", tmp_path / "bundle", data=str(tmp_path / "data"))
    assert scores(model, ["user4"], ["item2"])[0, 0] == pytest.approx(
        users[data.users.row("user4")] @ items[data.items.row("item2")], rel=1e-5
    )
    seen = set(model.histories.get("user4"))
    assert seen
    assert seen.isdisjoint(model.recommend(["user4"], k=50)["item_id"])
    assert model.attributes is not None
    assert model.answer([Request(user_id="nobody")])[0].degraded


def test_ids_may_come_from_a_table(tmp_path):
    path = implicit_file(tmp_path)
    pl.DataFrame({"item_id": [f"x{n}" for n in range(ITEMS)]}).write_csv(tmp_path / "items.csv")
    model = brought_in("implicit", path, tmp_path / "bundle", items=str(tmp_path / "items.csv"))
    assert model.items.ids([0, 24]) == ["x0", "x24"]
    pl.DataFrame({"item_id": ["a", "b"]}).write_csv(tmp_path / "few.csv")
    with pytest.raises(InputError, match="2 item ids and the model 25 items"):
        brought_in("implicit", path, tmp_path / "bundle", items=str(tmp_path / "few.csv"))


def refused(kind, path, tmp_path, message, error=InputError, **settings):
    with pytest.raises(error, match=message):
        brought_in(kind, path, tmp_path / "bundle", settings=settings)


def test_what_would_be_unpickled_is_refused(tmp_path):
    np.savez(tmp_path / "m.npz", user_factors=USER_UD, item_factors=ITEM_ND, item_ids=np.array([{}], object))
    refused("implicit", tmp_path / "m.npz", tmp_path, "no Python objects")
    (tmp_path / "m.npz").write_bytes(b"\x80\x04no zip")
    refused("implicit", tmp_path / "m.npz", tmp_path, "cannot be read as plain arrays")


def test_what_does_not_fit_is_refused(tmp_path):
    refused("implicit", tmp_path / "none.npz", tmp_path, "is not a file")
    refused("keras", tmp_path / "none.npz", tmp_path, "unknown kind of model", ConfigError)
    path = implicit_file(tmp_path)
    refused("rectools", path, tmp_path, "no array 'item_vectors'")
    refused("implicit", path, tmp_path, "unknown key 'item'", ConfigError, item="x")
    np.savez(tmp_path / "m.npz", user_factors=USER_UD[:, :3], item_factors=ITEM_ND)
    refused("implicit", tmp_path / "m.npz", tmp_path, "not of one model")
    np.savez(tmp_path / "m.npz", user_factors=USER_UD, item_factors=ITEM_ND * np.float32(np.inf))
    refused("implicit", tmp_path / "m.npz", tmp_path, "not finite")
    weights = saved(Recurrent(), tmp_path / "w.safetensors")
    shape = {"dim": 8, "layers": 1, "hidden": 12, "max_length": 20}
    gru = {"items": "items.weight", "engine": "gru", "shape": shape}
    refused("torch", weights, tmp_path, "'out.weight' is missing", **gru)
    refused("torch", weights, tmp_path, "no array 'table'", items="table")
    refused("torch", weights, tmp_path, "no array like", **gru, names={"a#": "b#"})
