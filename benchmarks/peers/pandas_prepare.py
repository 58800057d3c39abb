"""A Parquet log to leave-one-out sequences in pandas, the steps that RecTools takes or the fewest there can be.

`rectools`: ids by `pd.unique` and `reindex` (its IdMap), a frame of user, item, weight and time (Interactions), ranks
by time in each user (LastNSplitter), then `sort_values(time, kind="stable").groupby(user).agg(list)` of the training
part (SequenceDataset.from_interactions of its transformers). `lean`: factorize, one stable sort, flat arrays.

Last line: JSON with `seconds`, from opening the file, imports apart, and the `digest` of the sequences (see t5.py).
"""

import argparse
import hashlib
import json
import time

import numpy as np
import pandas as pd


def rectools(path):
    raw = pd.read_parquet(path).dropna(subset=["user_id", "item_id", "timestamp"])
    users, items = pd.unique(raw["user_id"].values), pd.unique(raw["item_id"].values)
    frame = pd.DataFrame(
        {
            "user_id": pd.Series(np.arange(len(users)), index=users).reindex(raw["user_id"]).values,
            "item_id": pd.Series(np.arange(len(items)), index=items).reindex(raw["item_id"]).values,
        }
    )
    frame["weight"] = 1.0
    frame["datetime"] = raw["timestamp"].values
    grouped = frame.groupby("user_id")
    count = grouped["datetime"].transform("size").astype(int)
    from_end = count - grouped["datetime"].rank(method="first", ascending=True).astype(int)
    held = count >= 3
    parts = {
        "train": frame[~held | (from_end >= 2)],
        "valid": frame[held & (from_end == 1)],
        "test": frame[held & (from_end == 0)],
    }
    sessions = (
        parts["train"]
        .sort_values("datetime", kind="stable")
        .groupby("user_id", sort=False)[["item_id", "weight", "datetime"]]
        .agg(list)
    )
    sequences = sessions["item_id"].to_list()

    def flat():
        owner = np.repeat(sessions.index.to_numpy(), [len(sequence) for sequence in sequences])
        yield owner, np.concatenate(sequences)
        for name in ("valid", "test"):
            yield parts[name]["user_id"].to_numpy(), parts[name]["item_id"].to_numpy()

    return users, items, flat


def lean(path):
    raw = pd.read_parquet(path).dropna(subset=["user_id", "item_id", "timestamp"])
    user, users = pd.factorize(raw["user_id"])
    item, items = pd.factorize(raw["item_id"])
    frame = pd.DataFrame({"user": user, "item": item, "time": raw["timestamp"].to_numpy()})
    frame = frame.sort_values(["user", "time"], kind="stable")
    grouped = frame.groupby("user")
    from_end, count = grouped.cumcount(ascending=False).to_numpy(), grouped["item"].transform("size").to_numpy()
    user, item, held = frame["user"].to_numpy(), frame["item"].to_numpy(), count >= 3

    def flat():
        for kept in (~held | (from_end >= 2), held & (from_end == 1), held & (from_end == 0)):
            yield user[kept], item[kept]

    return np.asarray(users), np.asarray(items), flat


def rows_of(ids):
    """Number of each id when ids are sorted."""
    rows = np.empty(len(ids), np.int32)
    rows[np.argsort(np.asarray(ids))] = np.arange(len(ids), dtype=np.int32)
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", choices=["rectools", "lean"])
    parser.add_argument("log")
    options = parser.parse_args()
    start = time.perf_counter()
    users, items, flat = {"rectools": rectools, "lean": lean}[options.steps](options.log)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256()
    user_rows, item_rows = rows_of(users), rows_of(items)
    for owner, item in flat():
        owner, item = user_rows[owner], item_rows[item]
        order = np.argsort(owner, kind="stable")
        digest.update(np.bincount(owner, minlength=len(users)).astype(np.int64).tobytes())
        digest.update(item[order].astype(np.int32).tobytes())
    print(json.dumps({"seconds": seconds, "digest": digest.hexdigest()}))


if __name__ == "__main__":
    main()
