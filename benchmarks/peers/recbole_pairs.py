"""RecBole's BPR or LightGCN on interactions from an .npz file: seconds of training and validation NDCG@20 by epoch.

Runs in the environment of recbole.txt. The clock runs during `Trainer._train_epoch` alone: neither building the model
nor validation is charged to the library. Validation is done here with one matrix product per block of users, all items
ranked but the user's own training items. Everything but the embedding size is RecBole's default.

Last line: JSON with `seconds` and `ndcg`, both by epoch and the first cumulative.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

K = 20
BLOCK = 512


def build(arrays, model, seed, folder):
    """RecBole's data, model and trainer over the training interactions; its own validation part is never used."""
    users = np.repeat(np.arange(len(arrays["offsets"]) - 1), np.diff(arrays["offsets"]))
    data = Path(folder) / "pairs"
    data.mkdir()
    lines = [f"{u}\t{i}" for u, i in zip(users.tolist(), arrays["items"].tolist(), strict=True)]
    for part, rows in (("train", lines), ("valid", lines[:1]), ("test", lines[:1])):
        (data / f"pairs.{part}.inter").write_text("\n".join(["user_id:token\titem_id:token", *rows]) + "\n")
    settings = {
        "data_path": str(folder), "benchmark_filename": ["train", "valid", "test"], "load_col": None,
        "embedding_size": 64, "seed": seed, "reproducibility": False, "use_gpu": False, "show_progress": False,
        "state": "WARNING", "checkpoint_dir": str(folder), "epochs": 1,
    }  # fmt: skip
    sys.argv = sys.argv[:1]  # RecBole reads the command line itself
    config = Config(model=model, dataset="pairs", config_dict=settings)
    init_seed(seed, False)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    network = get_model(config["model"])(config, train.dataset).to(config["device"])
    return dataset, train, network, get_trainer(config["MODEL_TYPE"], config["model"])(config, network)


def ndcg(arrays, dataset, network):
    """The mean over the judged users of NDCG@20, ideal over min(20, relevant)."""
    network.eval()
    with torch.no_grad():
        vectors = (
            network()
            if hasattr(network, "n_layers")
            else (network.user_embedding.weight, network.item_embedding.weight)
        )
        known_users, known_items = dataset.field2token_id["user_id"], dataset.field2token_id["item_id"]
        count = len(arrays["target_offsets"]) - 1
        to_row = np.full(int(max(arrays["items"].max(), arrays["targets"].max())) + 1, -1)
        for token, row in known_items.items():
            if token != "[PAD]":
                to_row[int(token)] = row
        gains = 1 / np.log2(np.arange(2, K + 2))
        total = 0.0
        for start in range(0, count, BLOCK):
            judged = range(start, min(start + BLOCK, count))
            users = arrays["users"][judged.start : judged.stop]
            scores = vectors[0][[known_users.get(str(u), 0) for u in users]] @ vectors[1].T
            scores[:, 0] = -torch.inf
            for at, user in enumerate(users):
                own = arrays["items"][arrays["offsets"][user] : arrays["offsets"][user + 1]]
                scores[at, to_row[own]] = -torch.inf
            best = scores.topk(K).indices.numpy()
            for at, place in enumerate(judged):
                low, high = arrays["target_offsets"][place], arrays["target_offsets"][place + 1]
                hits = np.isin(best[at], [row for row in to_row[arrays["targets"][low:high]] if row >= 0])
                total += gains[hits].sum() / gains[: min(K, high - low)].sum()
    network.train()
    return total / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("arrays")
    parser.add_argument("--model", choices=("BPR", "LightGCN"), required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    arrays = dict(np.load(options.arrays))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # RecBole writes logs where it stands
        dataset, train, network, trainer = build(arrays, options.model, options.seed, folder)
        seconds, scores, spent = [], [], 0.0
        for epoch in range(options.epochs):
            start = time.perf_counter()
            trainer._train_epoch(train, epoch)
            spent += time.perf_counter() - start
            seconds.append(round(spent, 2))
            scores.append(ndcg(arrays, dataset, network))
            print(f"recbole {options.model}: {spent:.1f} s, NDCG@20 {scores[-1]:.4f}", file=sys.stderr, flush=True)
    print(json.dumps({"seconds": seconds, "ndcg": scores}))


if __name__ == "__main__":
    main()
