"""RecTools' SASRecModel on sequences from an .npz file: seconds until validation NDCG@10 reaches a target.

Runs in the environment of rectools.txt. The clock starts when fitting starts, after RecTools has prepared its
data and built its network, and includes validation, which is done here four times an epoch with one matrix product
per block of users: finer and cheaper than the library's own, so that the library is not charged for either.
Everything but the sizes that the benchmark fixes is RecTools' default; histories are cut at 50, the usual length for
this data, where RecTools' own 100 would be slower.

Last line: JSON with `seconds` (null when not reached), `ndcg`, `epochs` and the curve of (seconds, ndcg).
"""

import argparse
import json
import sys
import time

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

BLOCK = 1024


class Reached(Callback):
    """Validates every `every` batches and at the end of each epoch; stops when all targets are reached."""

    def __init__(self, problem, targets, every, limit):
        self.problem, self.targets, self.every, self.limit = problem, targets, every, limit
        self.curve, self.reached = [], {}

    def on_fit_start(self, trainer, module):
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (batch_idx + 1) % self.every and batch_idx + 1 != trainer.num_training_batches:
            return
        ndcg = self.problem.ndcg(module)
        seconds = time.perf_counter() - self.start
        self.curve.append((round(seconds, 2), round(ndcg, 5)))
        print(f"rectools: {seconds:.1f} s, NDCG@10 {ndcg:.4f}", file=sys.stderr, flush=True)
        for target in self.targets:
            if ndcg >= target:
                self.reached.setdefault(target, seconds)
        if len(self.reached) == len(self.targets) or seconds > self.limit:
            trainer.should_stop = True


class Problem:
    """Validation in full: every user with a validation item, every item ranked but the user's own training items."""

    def __init__(self, arrays, length):
        self.items, self.offsets, self.targets = arrays["items"], arrays["offsets"], arrays["targets"]
        self.length = length

    def bind(self, model):
        """Translate item numbers once the model has its own; items it never saw can not be answered."""
        known = model.data_preparator.item_id_map
        translate = np.zeros(self.items.max() + 2, dtype=np.int64)
        external = np.asarray(known.external_ids)
        for internal, item in enumerate(external):
            if not isinstance(item, str):
                translate[item] = internal
        self.extra = model.data_preparator.n_item_extra_tokens
        self.rows = translate[self.items]
        targets = np.where(self.targets < len(translate), self.targets, 0)
        self.answers = np.where(self.targets >= 0, translate[targets], 0)

    def ndcg(self, module):
        network = module.torch_model
        network.eval()
        users = np.flatnonzero(self.targets >= 0)
        total = 0.0
        with torch.no_grad():
            table = network.item_model.get_all_embeddings()
            for at in range(0, len(users), BLOCK):
                total += self._block(network, table, users[at : at + BLOCK])
        network.train()
        return total / len(users)

    def _block(self, network, table, users):
        x = np.zeros((len(users), self.length), dtype=np.int64)
        seen_user, seen_item = [], []
        for i, user in enumerate(users):
            history = self.rows[self.offsets[user] : self.offsets[user + 1]]
            kept = history[-self.length :]
            if len(kept):
                x[i, -len(kept) :] = kept
            seen_user.append(np.full(len(history), i))
            seen_item.append(history)
        last = network.encode_sessions({"x": torch.from_numpy(x)}, table)[:, -1]
        scores = last @ table.T
        scores[:, : self.extra] = -torch.inf
        answers = torch.from_numpy(self.answers[users])
        score = scores[torch.arange(len(users)), answers].clone()
        assert torch.isfinite(score[answers >= self.extra]).all()
        scores[np.concatenate(seen_user), np.concatenate(seen_item)] = -torch.inf
        above = (scores > score[:, None]).sum(1).numpy()
        gains = np.where(above < 10, 1 / np.log2(above + 2.0), 0.0)
        return float(gains[(self.answers[users] >= self.extra)].sum())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sequences")
    parser.add_argument("--targets", type=float, nargs="+", required=True)
    parser.add_argument("--limit", type=float, default=2400.0)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    seed_everything(options.seed, verbose=False)
    arrays = np.load(options.sequences)
    problem = Problem(arrays, options.length)
    lengths = np.diff(arrays["offsets"])
    frame = pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(lengths)), lengths),
            Columns.Item: arrays["items"],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(np.arange(len(arrays["items"])), unit="s"),
        }
    )
    dataset = Dataset.construct(frame)
    batches = int(np.ceil((lengths >= 2).sum() / 128))
    watch = Reached(problem, options.targets, max(1, batches // 4), options.limit)

    def trainer():
        return Trainer(
            max_epochs=1000,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            devices=1,
            accelerator="cpu",
            callbacks=[watch],
        )

    model = SASRecModel(
        n_factors=64, n_blocks=1, loss="sampled_softmax", n_negatives=256, session_max_len=options.length
    )
    model._build_model_from_dataset(dataset)
    problem.bind(model)
    model.fit_trainer = trainer()
    model.fit_trainer.fit(model.lightning_model, model.data_preparator.get_dataloader_train())
    answer = {
        "seconds": [watch.reached.get(target) for target in options.targets],
        "ndcg": watch.curve[-1][1],
        "epochs": len(watch.curve) / 4,
        "curve": watch.curve,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
