"""The parts of a hybrid: models fitted one after the other, each in a folder of its own, or bundles that are there."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leanrec.core.console import say, step
from leanrec.core.errors import ConfigError, InputError
from leanrec.core.files import current_folder
from leanrec.core.registry import nearest
from leanrec.data.dataset import Dataset
from leanrec.models.base import FitOptions, Model
from leanrec.runtime.base import Source
from leanrec.runtime.recommender import Recommender
from leanrec.training.memory import MemoryNeed

__all__ = ["Part", "Spec", "check_specs", "fit_parts", "parts_memory"]

Spec = str | dict[str, Any]
"""The name of a model, the path of a bundle or run folder, or a table {model = ..., key = value ...}."""


@dataclass(frozen=True, slots=True)
class Part:
    """searched: fitted on train alone, so that validation can judge it. final: what answers in the end."""

    searched: Source
    final: Source
    card: Mapping[str, Any]


def check_specs(specs: Sequence[Spec], where: str) -> None:
    """ConfigError, before anything is trained, for what is neither a model nor a bundle, and for settings it lacks."""
    if not specs:
        raise ConfigError(f"{where}: name at least one source")
    for spec in specs:
        _model(spec, where)


def fit_parts(specs: Sequence[Spec], data: Dataset, options: FitOptions, where: str) -> list[Part]:
    """One after the other; a run that is resumed goes on with the part at which it was interrupted."""
    parts: list[Part] = []
    models = [_model(spec, where) for spec in specs]
    deadline = None if options.time_limit is None else time.monotonic() + options.time_limit
    for number, (spec, model) in enumerate(zip(specs, models, strict=True)):
        if model is None:
            parts.append(_bundled(str(spec), data, options, where))
            continue
        folder = None if options.run is None else options.run / "parts" / f"{number}-{model.name}"
        limit = None if deadline is None else _share(deadline - time.monotonic(), models[number:])
        part = replace(options, time_limit=limit, run=folder, on_score=None)
        with step(f"{where}: part {number + 1} of {len(specs)}, {model.name}"):
            parts.append(_fitted(model, data, part))
    _name_apart([part.searched for part in parts], [part.final for part in parts])
    return parts


def parts_memory(specs: Sequence[Spec], data: Dataset, where: str) -> list[tuple[str, MemoryNeed]]:
    """Name and need of every part that has to be fitted."""
    models = [_model(spec, where) for spec in specs]
    return [(model.name, model.memory(data)) for model in models if model is not None]


def _share(left: float, models: Sequence[Model[Any] | None]) -> float:
    """The seconds of the first of these models: those that train in epochs share what is left."""
    return max(left / max(sum(model is not None and hasattr(model.config, "epochs") for model in models), 1), 1)


def _model(spec: Spec, where: str) -> Model[Any] | None:
    """The model that a spec names, or None where it is a bundle."""
    from leanrec.models import MODELS

    settings = dict(spec) if isinstance(spec, dict) else {}
    name = settings.pop("model", None) if isinstance(spec, dict) else spec
    if not isinstance(name, str):
        raise ConfigError(f"{where}: {spec!r} does not say which model it is: write {{model = 'item-knn', ...}}")
    if name in MODELS:
        return MODELS[name](**settings)
    if isinstance(spec, str) and (current_folder(Path(spec)) or Path(spec)).is_dir():
        return None
    hint = nearest(name, list(MODELS))
    raise ConfigError(
        f"{where}: {name!r} is neither a model{hint} nor a folder that holds a bundle: see leanrec models"
    )


def _bundled(path: str, data: Dataset, options: FitOptions, where: str) -> Part:
    """A recommender that is there: about these items, and not trained on what the merge is fitted to."""
    found = Recommender.load(path)
    if found.lineage.get("dataset") != data.fingerprint or found.items != data.items:
        raise InputError(f"{where}: {path} was not made from this data set: train it on {data.name}, or name its model")
    if found.card.get("refit"):
        raise ConfigError(
            f"{where}: {path} was trained on validation events too, which have to judge it: train it without --refit"
        )
    if options.refit:
        say(f"{where}: {path} stays as it is, trained without validation events")
    return Part(found.source, found.source, found.card)


def _fitted(model: Model[Any], data: Dataset, options: FitOptions) -> Part:
    if options.run is None:
        with tempfile.TemporaryDirectory() as folder:
            # A model that trains in epochs leaves what validation judged in its run folder, and need not train twice.
            return _fit(model, data, replace(options, run=Path(folder), track=(), resume=False), keep=False)
    return _stored(options) or _fit(model, data, options, keep=True)


def _stored(options: FitOptions) -> Part | None:
    """The part as an earlier run left it, when resuming."""
    assert options.run is not None
    searched, final = options.run / "searched", options.run / "final"
    wanted = final if options.refit else searched
    if not options.resume or current_folder(searched) is None or current_folder(wanted) is None:
        return None
    say(f"{options.run}: fitted already")
    ended = Recommender.load(wanted)
    return Part(Recommender.load(searched).source, ended.source, ended.card)


def _fit(model: Model[Any], data: Dataset, options: FitOptions, *, keep: bool) -> Part:
    assert options.run is not None
    options.run.mkdir(parents=True, exist_ok=True)
    final = model.fit_with(data, options)
    searched = final
    if options.refit:
        before = options.run / "bundle"
        there = Recommender.load(before) if current_folder(before) is not None else None
        if there is not None and not there.card.get("refit"):
            searched = there
        else:
            searched = model.fit_with(data, replace(options, refit=False, run=None, track=()))
            if searched.card.get("refit"):
                say(f"{model.name} learns validation events in any case: a merge fitted to them trusts it too much")
    if keep:
        searched.save(options.run / "searched")
        if options.refit:
            final.save(options.run / "final")
    return Part(searched.source, final.source, final.card)


def _name_apart(*columns: Sequence[Source]) -> None:
    """Every source of a list gets a name of its own."""
    for sources in columns:
        taken: dict[str, int] = {}
        for source in sources:
            taken[source.name] = taken.get(source.name, 0) + 1
            if taken[source.name] > 1:
                source.name = f"{source.name} ({taken[source.name]})"
