"""sentence-transformers' `encode` of the texts in a JSON file: seconds of one pass, and the vectors.

Runs in the environment of sentence_transformers.txt, with the library's own settings: float32, batches of 32, sorted by
length. Arguments: folder of the model, JSON file of texts, where to write the vectors (.npy), threads. Last line: JSON
with `seconds` of the pass after a warm one over a few texts.
"""

import json
import sys
import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer


def main():
    folder, texts_file, out, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with open(texts_file) as file:
        texts = json.load(file)
    model = SentenceTransformer(folder, device="cpu")
    model.encode(texts[:64], show_progress_bar=False)
    started, cpu = time.perf_counter(), time.process_time()
    vectors = model.encode(texts, show_progress_bar=False)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    np.save(out, np.asarray(vectors, np.float32))
    print(json.dumps({"seconds": seconds, "cpu": cpu}))


if __name__ == "__main__":
    main()
