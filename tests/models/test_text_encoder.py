"""`text-encoder`: items as a tiny language model reads them, with a head over the history or without."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from leanrec.core.errors import ConfigError, InputError
from leanrec.core.nouns import Request
from leanrec.models import MODELS

from ..nn.tiny_bert import tiny_bert
from .contract import ModelContract
from .worlds import NEWCOMERS, shop

_SMALL: dict[str, Any] = {
    "encoder": tiny_bert(), "dim": 16, "layers": 1, "heads": 2, "max_length": 10, "epochs": 4, "negatives": 16,
    "batch_tokens": 256, "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEANREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class TestTextEncoder(ModelContract):
    model = "text-encoder"
    settings: ClassVar[dict[str, Any]] = _SMALL


class TestTextEncoderMean(ModelContract):
    model = "text-encoder"
    settings: ClassVar[dict[str, Any]] = {"encoder": tiny_bert(), "head": "mean"}


class TestESASRecWithGate(ModelContract):
    model = "esasrec"
    settings: ClassVar[dict[str, Any]] = {
        **{key: value for key, value in _SMALL.items() if key != "encoder"},
        "text": "gate", "text_options": {"encoder": tiny_bert()},
    }  # fmt: skip


class TestESASRecAligned(ModelContract):
    model = "esasrec"
    settings: ClassVar[dict[str, Any]] = {
        **{key: value for key, value in _SMALL.items() if key != "encoder"},
        "text": "align", "text_options": {"encoder": tiny_bert()},
    }  # fmt: skip


@pytest.mark.parametrize("finetune", ["lora", "full"])
def test_the_language_model_learns_too(finetune, capsys):
    if finetune == "lora":
        pytest.importorskip("peft")
    settings = {**_SMALL, "finetune": finetune, "head_steps": 2, "epochs": 2, "rate": 0.1}
    model = MODELS["text-encoder"](**settings).fit(shop(), seed=1)
    said = capsys.readouterr().err
    assert f"text encoder, {finetune}:" in said and "weights learn" in said and "peak memory" in said
    assert model.answer([Request(history=[NEWCOMERS[0]], k=5)])[0].item_ids


def test_items_nobody_had_are_recommended():
    """The category is in the text, so a newcomer of a taste comes before all items of the other one."""
    data = shop()
    model = MODELS["text-encoder"](**{**_SMALL, "epochs": 20, "template": "{category} {category}"}).fit(data, seed=1)
    unseen = data.items.rows(NEWCOMERS)
    category = data.attributes["category"].to_list()
    even = [item for item, kind in zip(data.items.ids(), category, strict=True) if kind == "even"][:4]
    ranking = model.answer([Request(history=even, k=len(data.items), include_seen=True)])[0]
    place = {item: at for at, item in enumerate(ranking.item_ids)}
    new = {category[row]: NEWCOMERS[at] for at, row in enumerate(unseen)}
    assert place[new["even"]] < place[new["odd"]]


def test_ids_of_items_without_events_do_not_count():
    data = shop()
    settings = {key: value for key, value in _SMALL.items() if key != "encoder"}
    texts = {"text_options": {"encoder": tiny_bert(), "template": "{category}"}}
    for way in ("gate", "align"):
        model = MODELS["esasrec"](**settings, text=way, **texts).fit(data, seed=1)
        table_ND = model.source.index.items_ND
        same = [row for row in range(len(data.items)) if row not in data.train().values]
        kinds = data.attributes["category"].to_list()
        for kind in ("even", "odd"):
            rows = [row for row in same if kinds[row] == kind]
            assert np.ptp(table_ND[rows], axis=0).max() < 1e-6 if rows else True


def test_with_texts_nothing_is_learned_against_items_without_events():
    data = shop()
    for settings, wanted in (
        ({}, ("uniform", {})),
        ({"text": "gate"}, ("popularity", {"exponent": 0.0})),
        ({"text": "gate", "negative_options": {"exponent": 0.5}}, ("popularity", {"exponent": 0.5})),
        ({"text": "gate", "negatives_from": "uniform"}, ("uniform", {})),
    ):
        config = MODELS["esasrec"](dim=16, **settings).resolve(data)
        assert (config.negatives_from, config.negative_options) == wanted


def test_without_titles_it_says_what_is_missing():
    data = shop()
    bare = type(data)(
        name=data.name, users=data.users, items=data.items, interactions=data.interactions, protocol=data.protocol,
        certify=data.certify, report=data.report,
    )  # fmt: skip
    for settings in (_SMALL, {**_SMALL, "head": "mean"}):
        with pytest.raises(InputError, match="--items"):
            MODELS["text-encoder"](**settings).fit(bare)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match="head=transformer"):
        MODELS["text-encoder"](encoder=tiny_bert(), head="mean", finetune="full").fit(shop())
    with pytest.raises(ConfigError, match=r"text gate: unknown key 'encodr' \(did you mean 'encoder'"):
        MODELS["esasrec"](text="gate", text_options={"encodr": "x"}, dim=16).fit(shop())
