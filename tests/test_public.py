"""The public Python surface: every name is there, lazily, and `import leanrec` stays light."""

from __future__ import annotations

import subprocess
import sys
import typing

import pytest

import leanrec


@pytest.mark.parametrize("name", leanrec.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(leanrec, name) is not None


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'evalute'.*evaluate"):
        leanrec.evalute  # noqa: B018


def test_dir_lists_the_public_names() -> None:
    assert set(dir(leanrec)) == set(leanrec.__all__)


def test_every_lazy_name_is_public_and_typed() -> None:
    assert set(leanrec._LAZY) <= set(leanrec.__all__)
    assert typing.TYPE_CHECKING is False


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys\nimport leanrec\n"
        "heavy = {'numpy', 'polars', 'numba', 'torch', 'msgspec', 'cyclopts'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_models_are_classes_by_name() -> None:
    from leanrec.models import MODELS

    assert leanrec.models.ItemKNN is MODELS["item-knn"]
    with pytest.raises(AttributeError, match="ESASRec"):
        leanrec.models.ESASREC  # noqa: B018
