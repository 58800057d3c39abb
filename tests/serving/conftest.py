"""Bundles, servers and applications for the tests of serving."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from leanrec.events.history import FolderHistory
from leanrec.events.sqlite import SqliteStore
from leanrec.runtime.bundle import history_folder

from .bundles import ring, save_bundle
from .harness import Local


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bundle") / "ring")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "events.sqlite")
    yield store
    store.close()


@pytest.fixture
def local(bundle: Path, store: SqliteStore) -> Iterator[Local]:
    recommender = ring()
    recommender.histories = FolderHistory(history_folder(bundle))
    local = Local(recommender, store)
    yield local
    local.close()
