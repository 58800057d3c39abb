"""What each layer, and each group of layers, loses in each precision; and the cheapest mix within a tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from leanrec.compression.agreement import Agreement
from leanrec.compression.encoder import with_layers
from leanrec.runtime.dense.base import DenseLayer
from leanrec.runtime.recommender import Recommender

__all__ = ["by_layer", "groups", "mixed"]

Coded = Mapping[str, Mapping[str, DenseLayer]]
"""Layer -> precision -> the layer in it."""


def groups(names: list[str]) -> dict[str, list[str]]:
    """Layers by the block they stand in (`blocks.0`), and by what they are in all blocks (`*.up`), two or more each."""
    found: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        if "blocks" in parts and len(parts) > parts.index("blocks") + 2:
            at = parts.index("blocks") + 2
            found.setdefault(".".join(parts[:at]), []).append(name)
            found.setdefault("*." + ".".join(parts[at:]), []).append(name)
    return {group: inside for group, inside in found.items() if len(inside) > 1}


def by_layer(
    model: Recommender, layers: Mapping[str, DenseLayer], coded: Coded, judge: Agreement,
    cost: Callable[[str, DenseLayer], float],
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of layer (or group), precision, loss when it alone is changed, and its cost before and after."""
    before = {name: cost(name, layer) for name, layer in layers.items()}
    together = {**{name: [name] for name in layers}, **groups(list(layers)), "*": list(layers)}
    rows: list[dict[str, Any]] = []
    costs: dict[tuple[str, str], float] = {}
    for name, inside in together.items():
        for kind in coded[inside[0]]:
            for one in inside:
                costs.setdefault((one, kind), cost(one, coded[one][kind]))
            changed = with_layers(model, {one: coded[one][kind] for one in inside})
            rows.append({
                "layer": name, "group": len(inside) > 1 or name == "*", "precision": kind,
                "loss": judge.loss(changed), "before": sum(before[one] for one in inside),
                "after": sum(costs[one, kind] for one in inside),
            })  # fmt: skip
    return rows


def mixed(
    model: Recommender, table: list[dict[str, Any]], coded: Coded, judge: Agreement, tolerance: float
) -> tuple[dict[str, str], float]:
    """Layer -> precision, and the loss of all of them together.

    Changes that make a layer cheaper are taken by rising loss for what they save, each kept when the mix with it is
    still within the tolerance. A layer may be changed again, to something cheaper.
    """
    chosen: dict[str, str] = {}
    now: dict[str, float] = {}
    loss = 0.0
    single = [row for row in table if not row["group"] and row["after"] < row["before"]]
    for row in sorted(single, key=lambda row: max(row["loss"], 0.0) / (row["before"] - row["after"])):
        if row["loss"] > tolerance or row["after"] >= now.get(row["layer"], row["before"]):
            continue
        tried = {**chosen, row["layer"]: row["precision"]}
        found = judge.loss(with_layers(model, {name: coded[name][kind] for name, kind in tried.items()}))
        if found <= tolerance:
            chosen, loss = tried, found
            now[row["layer"]] = row["after"]
    return chosen, loss
