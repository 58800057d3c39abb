"""L1: items encoded per second by a text encoder, leanrec against sentence-transformers' `encode`.

The same model (all-MiniLM-L6-v2), the same texts (a third each from books, films and a shop), the same threads, each
side in a process of its own, by turns; what is timed is one pass over the texts with the model loaded and warm. Gate:
every vector has a cosine of at least .999 with the peer's. LONG=1 takes all texts.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness import LONG, ROOT, THREADS, Result, bench_data, paired_ratio, take_turns
from benchmarks.peers import peer_python, run_timed
from leanrec.features.texts import item_texts
from leanrec.nn.text.loading import DEFAULT_ENCODER, encoder_folder

A_SET = 1_000
COSINE = 0.999


def run() -> Result:
    """Both sides by turns, five rounds."""
    folder, peer = encoder_folder(DEFAULT_ENCODER), peer_python("sentence_transformers")
    with tempfile.TemporaryDirectory() as place:
        texts = Path(place) / "texts.json"
        texts.write_text(json.dumps(some_texts()))
        count = len(json.loads(texts.read_text()))
        script = ROOT / "benchmarks" / "peers" / "sentence_transformers_encode.py"
        commands = {
            "leanrec": [sys.executable, "-m", "benchmarks.l1"],
            "sentence-transformers": [str(peer), str(script)],
        }

        def side(name: str) -> float:
            arguments = [str(folder), str(texts), str(Path(place) / f"{name}.npy"), str(THREADS)]
            return float(json.loads(run_timed([*commands[name], *arguments])[-1])["seconds"])

        ours, theirs = take_turns(lambda _: side("leanrec"), lambda _: side("sentence-transformers"), rounds=5)
        found, wanted = (np.load(Path(place) / f"{name}.npy") for name in commands)
    cosine = float((_unit(found) * _unit(wanted)).sum(axis=1).min())
    ratio, interval = paired_ratio(ours, theirs)
    rates = [count / float(np.median(side)) for side in (ours, theirs)]
    return Result(
        id="L1", ratio=ratio, interval=interval, gate="ok" if cosine >= COSINE else "failed",
        headers=("encoder", "items a second", "seconds"),
        rows=[
            (name, f"{rate:,.0f}", f"{np.median(side):.1f}")
            for name, rate, side in zip(commands, rates, (ours, theirs), strict=True)
        ],
        figures=f"{rates[0]:,.0f} items/s against {rates[1]:,.0f}; cosine at least {cosine:.5f}; {count:,} texts",
    )  # fmt: skip


def some_texts() -> list[str]:
    """Titles, authors and genres; the rows are spread evenly over each catalogue."""
    shop = bench_data("online-retail")
    texts: list[str] = []
    for name in ("goodbooks-10k-items", "ml-latest-small", "online-retail"):
        found = item_texts(pl.read_parquet(shop.parent / name / "items.parquet"))
        step = 1 if LONG else max(1, len(found) // A_SET)
        texts += found[::step] if LONG else found[::step][:A_SET]
    return texts


def _unit(vectors_NE: np.ndarray) -> np.ndarray:
    length_N: np.ndarray = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    return vectors_NE / length_N


def _here(folder: str, texts_file: str, out: str, threads: str) -> None:
    """In a process of its own: one pass with our encoder."""
    import time

    import torch

    from leanrec.nn.text.encoder import TextEncoder

    torch.set_num_threads(int(threads))
    texts = json.loads(Path(texts_file).read_text())
    encoder = TextEncoder(folder)
    encoder.vectors(texts[:64])
    started, cpu = time.perf_counter(), time.process_time()
    vectors = encoder.vectors(texts)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    np.save(out, vectors)
    print(json.dumps({"seconds": seconds, "cpu": cpu}))


if __name__ == "__main__":
    _here(*sys.argv[1:])
