"""Structured pruning: whole layers, heads and feed-forward channels go, and the arrays become smaller.

What is left is fitted anew, so that the outputs of each pruned part stay as near as they can in squares on calibration
histories; a few epochs of fine-tuning may follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from leanrec.compression.agreement import Agreement
from leanrec.compression.base import Step, StepConfig, StepRecord, Work
from leanrec.compression.encoder import calibration, dense_layers, encoder_bytes, observe, with_tensors
from leanrec.compression.memory import remember, remembered
from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.space import Choice, Dimension, Range
from leanrec.runtime.dense import DENSE, put_dense
from leanrec.runtime.dense.base import Inputs
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.embedding import EmbeddingSource

__all__ = ["Prune", "channels_of", "heads_of", "refit", "refit_rows", "shrink"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Tensors = Mapping[str, npt.NDArray[Any]]
_RIDGE = 1e-4


class PruneConfig(StepConfig, frozen=True, kw_only=True):
    """Shares that stay, of what the recommender has now."""

    layers: float = 1.0
    """Of the blocks; those go first without which fewest answers change."""
    heads: float = 1.0
    """Of the heads of each block, at least one."""
    channels: float = 1.0
    """Of the feed-forward channels of each block, at least one."""
    score: Literal["output", "magnitude", "movement"] = "output"
    """What a head or channel counts for: its part in the outputs on calibration histories, the size of its weights, or
    how much the loss would change without it, to first order (needs the extra `train`)."""
    calibrate: int = 512
    epochs: int = 0
    """Of fine-tuning afterwards, at most; item vectors stay as they are."""
    lr: float = 3e-4

    space: ClassVar[Mapping[str, Dimension]] = {
        "layers": Choice((0.5, 1.0)), "heads": Choice((0.5, 1.0)), "channels": Range(0.25, 1.0),
        "score": Choice(("output", "magnitude")), "epochs": Choice((0, 3)),
    }  # fmt: skip


class Prune(Step[PruneConfig]):
    """Of transformers; applied once to a recommender: a second time says that there is nothing left."""

    name = "prune"
    stage = "prune"
    Config = PruneConfig

    def apply(self, model: Recommender, work: Work) -> tuple[Recommender, StepRecord]:
        config = self.config
        for name in ("layers", "heads", "channels"):
            if not 0 < getattr(config, name) <= 1:
                raise ConfigError(
                    f"prune: {name}={getattr(config, name)} is not a share: use a number above 0, at most 1"
                )
        source = model.source
        if not isinstance(source, EmbeddingSource) or source.engine.kind != "transformer":
            said = f"{source.name} is not a transformer: it has no blocks to prune"
            return self.left(model, said)
        if remembered(model, self.name) is not None:
            return self.left(model, f"{source.name} is pruned already")
        if any(layer.kind != "float32" for layer in dense_layers(model, kinds=None).values()):
            said = f"the layers of {source.name} are coded already: prune before that"
            return self.left(model, said)
        before, histories = encoder_bytes(model), calibration(model, work, config.calibrate)
        lean, gone = _without_layers(model, work, config.layers)
        scores = _movement(lean, work) if config.score == "movement" else None
        tensors, counts = shrink(lean, histories, config.heads, config.channels, config.score, scores)
        lean = with_tensors(lean, tensors)
        facts: dict[str, Any] = {
            "layers_gone": gone,
            **counts,
            "bytes_before": before,
            "bytes_after": encoder_bytes(lean),
        }
        if facts["bytes_after"] == before:
            said = f"these shares leave {source.name} as it is"
            return self.left(model, said, facts)
        if config.epochs:
            from leanrec.compression.learning.tuning import tune

            lean, tuned = tune(lean, work, epochs=config.epochs, lr=config.lr)
            facts |= tuned
        said = f"{facts['bytes_after']:,} bytes of encoder in place of {before:,}"
        if gone:
            said += f", without block{'s' * (len(gone) > 1)} {', '.join(map(str, gone))}"
        lean = remember(lean, self.name, self.entry())
        return lean, StepRecord(step=self.name, applied=True, said=said, facts=facts)


def _movement(model: Recommender, work: Work) -> Tensors:
    from leanrec.compression.learning.tuning import movement

    return movement(model, work)


def _without_layers(model: Recommender, work: Work, share: float) -> tuple[Recommender, list[int]]:
    """Blocks taken out one by one, each time the one that costs fewest answers."""
    assert isinstance(model.source, EmbeddingSource)
    total = int(model.source.engine.config()["layers"])
    keep = max(1, round(share * total))
    if keep >= total:
        return model, []
    judge, left = Agreement(model, work), list(range(total))
    while len(left) > keep:
        tried = {block: [one for one in left if one != block] for block in left}
        losses = {block: judge.loss(_only_blocks(model, kept)) for block, kept in tried.items()}
        left.remove(min(losses, key=lambda block: losses[block]))
    return _only_blocks(model, left), [block for block in range(total) if block not in left]


def _only_blocks(model: Recommender, kept: list[int]) -> Recommender:
    assert isinstance(model.source, EmbeddingSource)
    engine = model.source.engine
    place = {f"blocks.{block}.": f"blocks.{at}." for at, block in enumerate(kept)}
    tensors = {}
    for name, array in engine.tensors().items():
        head = ".".join(name.split(".")[:2]) + "."
        if not name.startswith("blocks."):
            tensors[name] = array
        elif head in place:
            tensors[place[head] + name.removeprefix(head)] = array
    return with_tensors(model, tensors, {**engine.config(), "layers": len(kept)})


def shrink(
    model: Recommender, histories: Jagged, heads: float, channels: float, score: str, moved: Tensors | None = None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, list[int]]]:
    """The arrays with these shares of heads and channels, and how many each block has left.

    moved: weight times gradient of each array, for the score `movement`.
    """
    assert isinstance(model.source, EmbeddingSource)
    shape, tensors = model.source.engine.config(), dict(model.source.engine.tensors())
    width, gated = shape["dim"] // shape["heads"], shape["block"] == "ligr"
    seen = observe(model, ["*.attention.out", "*.down"], histories)
    counts: dict[str, list[int]] = {"heads": [], "channels": []}
    for at in (f"blocks.{block}." for block in range(shape["layers"])):
        for name, wanted, rows_of, size in (
            ("attention.out", heads, heads_of(width), width), ("down", channels, channels_of(gated), 1),
        ):  # fmt: skip
            into, away = f"{at}{name}", f"{at}{'attention.qkv' if name != 'down' else 'up'}"
            parts = tensors[f"{into}.weight"].shape[1] // size
            keep = max(1, round(wanted * parts))
            counts["heads" if name != "down" else "channels"].append(keep)
            if keep == parts:
                continue
            worth = _worth(tensors, into, away, size, rows_of, seen[into], score, moved)
            kept = np.sort(np.argsort(-worth, kind="stable")[:keep])
            columns = (kept[:, None] * size + np.arange(size)).ravel()
            rows = rows_of(kept, parts)
            weight = refit(tensors[f"{into}.weight"], columns, seen[into])
            tensors = put_dense(tensors, into, DENSE["float32"].encode(weight, tensors[f"{into}.bias"]))
            fewer, bias = (np.ascontiguousarray(tensors[f"{away}.{part}"][rows]) for part in ("weight", "bias"))
            tensors = put_dense(tensors, away, DENSE["float32"].encode(fewer, bias))
    return tensors, counts


def heads_of(width: int) -> Callable[[Any, int], Any]:
    """Rows of the (3 H width, D) projection that make these of H heads."""

    def rows(kept: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64]:
        one = (kept[:, None] * width + np.arange(width)).ravel()
        return np.concatenate([one + part * total * width for part in range(3)])

    return rows


def channels_of(gated: bool) -> Callable[[Any, int], Any]:
    """Rows of the (H, D) layer that make these channels; of (2 H, D), values and gates, where it is gated."""

    def rows(kept: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64]:
        return np.concatenate([kept, kept + total]) if gated else kept

    return rows


def refit(weight_OD: F32, kept_K: npt.NDArray[np.int64], inputs: Inputs) -> F32:
    """(O, K) the weights of the inputs that stay which come nearest, in squares on what was seen, to all of them."""
    square_DD = _ridged(inputs)
    inside_KK, across_DK = square_DD[np.ix_(kept_K, kept_K)], square_DD[:, kept_K]
    weight_OK = np.linalg.solve(inside_KK, (weight_OD @ across_DK).T).T
    return np.ascontiguousarray(weight_OK.astype(np.float32))


def refit_rows(weight_OD: F32, kept_OD: npt.NDArray[np.bool_], inputs: Inputs) -> F32:
    """(O, D) `refit` of each output by itself, with the inputs that it keeps; zero elsewhere."""
    square_DD = _ridged(inputs)
    across_OD = weight_OD @ square_DD
    fitted_OD = np.zeros_like(weight_OD)
    for weight_D, across_D, kept_D in zip(fitted_OD, across_OD, kept_OD, strict=True):
        at = np.flatnonzero(kept_D)
        weight_D[at] = np.linalg.solve(square_DD[np.ix_(at, at)], across_D[at])
    return fitted_OD


def _ridged(inputs: Inputs) -> F64:
    """The second moments of inputs, a little larger along the diagonal so that they can be solved for."""
    dim = len(inputs.square_DD)
    return inputs.square_DD + _RIDGE * max(float(np.trace(inputs.square_DD)) / dim, 1e-12) * np.eye(dim)


def _worth(
    tensors: Tensors, into: str, away: str, size: int, rows_of: Callable[[Any, int], Any], inputs: Inputs, score: str,
    moved: Tensors | None,
) -> F64:  # fmt: skip
    """(parts,) what each head or channel counts for."""
    weight_OD = tensors[f"{into}.weight"].astype(np.float64)
    parts = weight_OD.shape[1] // size
    made_PR = np.stack([rows_of(np.asarray([part]), parts) for part in range(parts)])
    if score == "movement":
        assert moved is not None
        total: F64 = np.abs(moved[f"{into}.weight"].reshape(len(weight_OD), parts, size).sum(axis=(0, 2)))
        total += np.abs(moved[f"{away}.weight"][made_PR].sum(axis=(1, 2)))
        return total
    if score == "magnitude":
        norm_P = np.sqrt((weight_OD.reshape(-1, parts, size) ** 2).sum(axis=(0, 2)))
        made: F64 = norm_P * np.sqrt((tensors[f"{away}.weight"][made_PR].astype(np.float64) ** 2).sum(axis=(1, 2)))
        return made
    worth = np.empty(parts)
    for part in range(parts):  # E |W_p x_p|^2
        at = slice(part * size, (part + 1) * size)
        worth[part] = np.einsum("oi,ij,oj->", weight_OD[:, at], inputs.square_DD[at, at], weight_OD[:, at])
    return worth
