"""Off-policy estimates on the Open Bandit sample against Open Bandit Pipeline's: the gate of Q3."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.harness import ROOT, bench_data
from benchmarks.peers import peer_python, run_timed
from leanrec.core.console import format_table
from leanrec.evaluation.off_policy import Estimate, estimate, under_target

__all__ = ["TOLERANCE", "Logged", "compare_with_obp", "logs", "ours"]

TOLERANCE = 1e-6
_SMOOTHING = 100.0


@dataclass(frozen=True)
class Logged:
    """What one policy showed in one campaign, a target policy over the N items, and a model of clicks."""

    name: str
    reward_T: npt.NDArray[np.float64]
    action_T: npt.NDArray[np.int64]
    pscore_T: npt.NDArray[np.float64]
    target_TN: npt.NDArray[np.float64]
    predicted_TN: npt.NDArray[np.float64]


def logs(folder: Path | None = None) -> list[Logged]:
    """Each campaign's log of random exposure, judged for three policies learned from the log of the other one.

    `shown`: how often the other policy showed an item at that position; `best`: always the item with the most clicks
    there (for replay); `uniform`: every item alike. The model is the item's click rate in the other log, smoothed.
    """
    frame = pl.read_parquet((folder or bench_data("obd-small")) / "interactions.parquet")
    found = []
    for campaign in sorted(frame["campaign"].unique()):
        part = frame.filter(pl.col("campaign") == campaign)
        log, other = (part.filter((pl.col("policy") == "random") == wanted) for wanted in (True, False))
        items = int(part["item_id"].max()) + 1  # type: ignore[arg-type]
        clicks_N, shown_N = (np.zeros(items), np.zeros(items))
        np.add.at(clicks_N, other["item_id"].to_numpy(), other["click"].to_numpy())
        np.add.at(shown_N, other["item_id"].to_numpy(), 1)
        rate = clicks_N.sum() / shown_N.sum()
        model_N = (clicks_N + _SMOOTHING * rate) / (shown_N + _SMOOTHING)
        places = int(part["position"].max()) + 1  # type: ignore[arg-type]
        shown_PN = np.ones((places, items))
        np.add.at(shown_PN, (other["position"].to_numpy(), other["item_id"].to_numpy()), 1)
        targets = {
            "uniform": np.full((places, items), 1 / items),
            "shown": shown_PN / shown_PN.sum(axis=1, keepdims=True),
            "best": np.tile(np.eye(items)[model_N.argmax()], (places, 1)),
        }
        for name, target_PN in targets.items():
            found.append(
                Logged(
                    f"{campaign}-{name}",
                    log["click"].to_numpy().astype(np.float64),
                    log["item_id"].to_numpy().astype(np.int64),
                    log["propensity_score"].to_numpy().astype(np.float64),
                    target_PN[log["position"].to_numpy()],
                    np.tile(model_N, (len(log), 1)),
                )
            )
    return found


def ours(log: Logged) -> dict[str, Estimate]:
    """leanrec's estimates for one log."""
    return estimate(log.reward_T, log.pscore_T, **under_target(log.target_TN, log.predicted_TN, log.action_T))


def theirs(given: list[Logged]) -> dict[str, dict[str, float]]:
    """Open Bandit Pipeline's, from its own environment."""
    python = peer_python("obp")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logs.npz"
        arrays = {}
        for log in given:
            for part in ("reward", "action", "pscore"):
                arrays[f"{log.name}.{part}"] = getattr(log, f"{part}_T")
            arrays |= {f"{log.name}.target": log.target_TN, f"{log.name}.predicted": log.predicted_TN}
        np.savez(path, **arrays)
        found: dict[str, dict[str, float]] = json.loads(
            run_timed([str(python), str(ROOT / "benchmarks" / "peers" / "obp_estimates.py"), str(path)])[-1]
        )
    return found


def compare_with_obp() -> tuple[float, str]:
    """The largest difference of any estimate, and a table of all with intervals and the clicks behind them."""
    given = logs()
    expected = theirs(given)
    rows, worst = [], 0.0
    for log in given:
        for name, found in ours(log).items():
            peer = expected[log.name][name]
            gap = abs((found.value or 0.0) - peer)  # without a round that agrees, obp's replay says 0
            worst = max(worst, gap)
            ends = "-" if found.interval is None else f"[{found.interval[0]:.5f}, {found.interval[1]:.5f}]"
            value = "-" if found.value is None else f"{found.value:.6f}"
            rows.append([log.name, name, value, f"{peer:.6f}", f"{gap:.0e}", ends, f"{found.rewarded:,}",
                         f"{found.effective:,.0f}"])  # fmt: skip
    heads = ["campaign-policy", "estimator", "leanrec", "obp", "gap", "95 % interval", "clicks", "effective rounds"]
    return worst, format_table(heads, rows, text=(0, 1))


def main() -> int:
    worst, table = compare_with_obp()
    print(table)
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
