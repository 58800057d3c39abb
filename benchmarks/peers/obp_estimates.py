"""Open Bandit Pipeline's estimates for the policies in an .npz file, as one JSON object; runs in .peers/obp."""

import json
import sys

import numpy as np
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    InverseProbabilityWeighting,
    ReplayMethod,
    SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
)

ESTIMATORS = {
    "ips": InverseProbabilityWeighting(),
    "snips": SelfNormalizedInverseProbabilityWeighting(),
    "dm": DirectMethod(),
    "dr": DoublyRobust(),
    "sndr": SelfNormalizedDoublyRobust(),
    "replay": ReplayMethod(),
}


def main(path: str) -> None:
    log = np.load(path, allow_pickle=False)
    names = sorted(name.removesuffix(".reward") for name in log.files if name.endswith(".reward"))
    found = {}
    for name in names:
        given = {
            "reward": log[f"{name}.reward"],
            "action": log[f"{name}.action"],
            "pscore": log[f"{name}.pscore"],
            "action_dist": log[f"{name}.target"][:, :, None],
            "estimated_rewards_by_reg_model": log[f"{name}.predicted"][:, :, None],
        }
        found[name] = {key: float(one.estimate_policy_value(**given)) for key, one in ESTIMATORS.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
