"""Objectives against finite differences, the graph table against dense matrices, loaders that repeat themselves."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.jagged import Jagged
from leanrec.kernels.pairs import hardest_others_reference
from leanrec.kernels.spectrum import Graph, leading
from leanrec.training.pairs import PairLoader, PairTask, UserLoader
from leanrec.training.pairs.objectives import BPR, Constraint, Contrastive, Softmax, constraint_graph
from leanrec.training.pairs.tables import GraphTable, PlainTable

USERS, ITEMS, DIM = 6, 10, 5


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(0)
    return Jagged.from_rows([sorted(rng.choice(ITEMS, int(rng.integers(1, 6)), replace=False)) for _ in range(USERS)])


def _objectives(train):
    return {
        "bpr": BPR(0.0),
        "softmax": Softmax(0.2),
        "contrastive": Contrastive(DIM, margin=0.1, weight=20.0, own=0.4, decay=0.0, lr=0.01),
        "constraint": Constraint(train, ITEMS, weight=30.0, graph=0.7, neighbours=3, decay=0.0, seed=0),
    }


def _loader(name, train):
    if name == "bpr":
        return PairLoader(train, batch=50, candidates=3, num_items=ITEMS, seed=3)
    return UserLoader(train, batch=4, negatives=8, num_items=ITEMS, seed=3)


@pytest.mark.parametrize("name", ["bpr", "softmax", "contrastive", "constraint"])
def test_gradient_is_that_of_the_loss(train, name):
    objective, batch = _objectives(train)[name], next(_loader(name, train).epoch(0))
    table = PlainTable(USERS + ITEMS, DIM, lr=0.01, std=1.0, seed=1)
    items_S = objective.items(batch, table.values_MD[:USERS], table.values_MD[USERS:])
    rows, places = table.distinct(np.concatenate([batch.users_B, items_S + np.int32(USERS)]))
    count = len(batch.users_B)
    vectors, direction = table.gather(rows), np.random.default_rng(1).standard_normal((len(rows), DIM))

    def loss(step):
        moved = (vectors + step * direction).astype(np.float32)
        before = {key: np.array(value) for key, value in objective.state().items()}
        found = objective.loss(batch, moved, places[:count], places[count:])
        if before:
            objective.load_state(before)
        return found

    slope = (loss(1e-3)[0] - loss(-1e-3)[0]) / 2e-3
    assert (loss(0.0)[1] * direction).sum() == pytest.approx(slope, rel=0.02, abs=0.05)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("layers", "user_power"), [(1, 1.0), (3, 1.0), (3, 0.75)])
def test_propagation_is_that_of_the_paper(train, layers, user_power, threads):
    """Against powers of the dense normalised adjacency matrix (LightGCN, eq. 8), and with users normalised less."""
    graph = Graph(train, ITEMS, threads, user_power)
    table = GraphTable(graph, DIM, layers=layers, decay=0.0, lr=0.01, std=1.0, seed=1)
    adjacency = np.zeros((USERS + ITEMS, USERS + ITEMS))
    adjacency[train.row_of(), USERS + train.values] = 1
    adjacency += adjacency.T
    scale = 1 / np.sqrt(np.maximum(adjacency.sum(axis=1), 1))
    scale[:USERS] **= user_power
    normal = scale[:, None] * adjacency * scale
    wanted = sum(np.linalg.matrix_power(normal, layer) @ table.values_MD for layer in range(layers + 1))
    np.testing.assert_allclose(table.vectors(), wanted / (layers + 1), rtol=1e-4, atol=1e-5)


def test_a_step_on_the_graph_follows_the_gradient_of_its_rows(train):
    """The gradient of vectors goes back through the propagation: by finite differences over the rows."""
    table = GraphTable(Graph(train, ITEMS, 1), DIM, layers=2, decay=0.0, lr=1e-3, std=1.0, seed=1)
    weights = np.random.default_rng(2).standard_normal((USERS + ITEMS, DIM)).astype(np.float32)
    before = (table.vectors() * weights).sum()
    rows = np.arange(USERS + ITEMS, dtype=np.int32)
    gradient = table.propagated(weights, table.layers)
    table.apply(rows, weights)
    moved = (table.vectors() * weights).sum() - before
    assert moved == pytest.approx(-1e-3 * np.abs(gradient).sum(), rel=0.01)  # Adam's first step is a sign


@pytest.mark.parametrize("name", ["bpr", "softmax"])
def test_batches_repeat_and_resume(train, name):
    def seen(start):
        return [
            (b.step, b.users_B.tolist(), (b.others_BC if name == "bpr" else b.items_S).tolist())
            for b in _loader(name, train).epoch(2, start)
        ]

    assert seen(0) == seen(0)
    assert seen(1) == seen(0)[1:]


def test_an_epoch_holds_every_interaction_once(train):
    pairs = [(u, i) for b in PairLoader(train, batch=7, candidates=1, num_items=ITEMS, seed=0).epoch(0)
             for u, i in zip(b.users_B.tolist(), b.items_B.tolist(), strict=True)]  # fmt: skip
    assert sorted(pairs) == sorted(zip(train.row_of().tolist(), train.values.tolist(), strict=True))
    users = [u for b in UserLoader(train, batch=4, negatives=2, num_items=ITEMS, seed=0).epoch(0) for u in b.users_B]
    assert sorted(users) == list(range(USERS))


@pytest.mark.parametrize("name", ["bpr", "softmax", "contrastive", "constraint"])
def test_state_comes_back_whole(train, name):
    """A task that takes up another's state goes on as that one does, bit for bit."""

    def task():
        table = PlainTable(USERS + ITEMS, DIM, lr=0.05, std=0.1, seed=1)
        return PairTask(table, _objectives(train)[name], USERS)

    first, second, loader = task(), task(), _loader(name, train)
    for batch in loader.epoch(0):
        first.step(batch)
    second.load_state({key: np.array(value) for key, value in first.state().items()})
    for batch in loader.epoch(1):
        assert first.step(batch) == second.step(batch)
    assert all(np.array_equal(value, second.state()[key]) for key, value in first.state().items())


def test_the_rate_follows_its_schedule_and_counts_on_after_a_resume(train):
    def task():
        table = PlainTable(USERS + ITEMS, DIM, lr=0.05, std=0.1, seed=1)
        found = PairTask(table, BPR(0.0), USERS)
        found.follow("cosine", 4)
        return found

    loader = PairLoader(train, batch=-(-len(train.values) // 2), candidates=3, num_items=ITEMS, seed=3)
    assert loader.steps == 2
    whole, rates = task(), []
    for epoch in range(2):
        for batch in loader.epoch(epoch):
            whole.step(batch)
            rates.append(whole.lr)
        if epoch == 0:
            kept = {key: np.array(value) for key, value in whole.state().items()}
    assert rates == pytest.approx([0.05 * (0.5 + 0.5 * np.cos(np.pi * step / 4)) for step in (1, 2, 3, 4)])
    resumed = task()
    resumed.load_state(kept)
    for batch in loader.epoch(1):
        resumed.step(batch)
    assert np.array_equal(resumed.table.values_MD, whole.table.values_MD)


def test_few_neighbours_are_filled_up_with_the_item_itself():
    near, omega = constraint_graph(Jagged.from_rows([[0, 1], [2]]), 4, 2)
    assert near.tolist() == [[1, 0], [0, 1], [2, 2], [3, 3]]
    assert (omega > 0).tolist() == [[True, False], [True, False], [False, False], [False, False]]


def test_of_several_candidates_bpr_takes_the_one_that_scores_highest(train):
    rng = np.random.default_rng(4)
    users, items = (rng.standard_normal((count, DIM)).astype(np.float32) for count in (USERS, ITEMS))
    batch = next(_loader("bpr", train).epoch(0))
    taken = BPR(0.0).items(batch, users, items)[len(batch.users_B) :]
    wanted = np.empty_like(taken)
    hardest_others_reference(users, items, batch.users_B, batch.others_BC, wanted)
    assert np.array_equal(taken, wanted) and batch.others_BC.shape == (len(batch.users_B), 3)
    had = [set(row.tolist()) for row in np.split(train.values, train.offsets[1:-1])]
    assert all(len(had[u]) == ITEMS or i not in had[u] for u, i in zip(batch.users_B, taken, strict=True))


@pytest.mark.parametrize("dim", [3, 40])
def test_leading_directions_are_those_of_the_normalised_matrix(dim):
    """Against a full decomposition; with more dimensions than the rank has, the rest is zeros."""
    rng = np.random.default_rng(5)
    train = Jagged.from_rows([sorted(rng.choice(30, int(rng.integers(0, 12)), replace=False)) for _ in range(20)])
    graph = Graph(train, 30, 1)
    vectors, values = leading(graph, dim, 0)
    dense = np.zeros((20, 30))
    dense[train.row_of(), train.values] = 1
    dense *= graph.scale_M[:20, None] * graph.scale_M[20:]
    wanted = np.linalg.svd(dense)[1]
    rank = min(dim, int((wanted > 1e-5).sum()))
    np.testing.assert_allclose(values[:rank], wanted[:rank], rtol=1e-3)
    assert not values[rank:].any() and not vectors[:, rank:].any()
    np.testing.assert_allclose(vectors[:20].T @ dense @ vectors[20:], np.diag(values), atol=1e-3)
