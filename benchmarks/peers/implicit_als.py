"""implicit's AlternatingLeastSquares on pairs from an .npz file: seconds and validation NDCG@20 after each iteration.

Runs in the environment of implicit.txt, BLAS on one thread as the library asks for. The clock runs inside fit: what
`ranking.ndcg` takes between iterations is not charged. Ends after the given number of iterations, or when so many in
turn brought nothing better.

Last line: JSON, a list of [seconds, ndcg].
"""

import argparse
import contextlib
import json
import sys
import time

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from ranking import ndcg, stale
from scipy.sparse import csr_matrix


class Done(Exception):
    """Nothing more is to be measured."""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs")
    parser.add_argument("--factors", type=int, required=True)
    parser.add_argument("--alpha", type=float, required=True)
    parser.add_argument("--regularization", type=float, required=True)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--patience", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    arrays = dict(np.load(options.pairs))
    ones = np.ones(len(arrays["items"]), np.float32)
    shape = (len(arrays["offsets"]) - 1, int(arrays["num_items"]))
    matrix = csr_matrix((ones, arrays["items"], arrays["offsets"]), shape=shape)
    model = AlternatingLeastSquares(
        factors=options.factors,
        alpha=options.alpha,
        regularization=options.regularization,
        iterations=options.iterations,
        num_threads=options.threads,
        random_state=options.seed,
    )
    curve, resumed, spent = [], time.perf_counter(), 0.0

    def after(iteration, elapsed, loss):
        nonlocal resumed, spent
        spent += time.perf_counter() - resumed
        curve.append((spent, ndcg(model.user_factors, model.item_factors, arrays)))
        print(f"implicit: {spent:.1f} s, NDCG@20 {curve[-1][1]:.4f}", file=sys.stderr, flush=True)
        if stale(curve, options.patience):
            raise Done
        resumed = time.perf_counter()

    with contextlib.suppress(Done):
        model.fit(matrix, show_progress=False, callback=after)
    print(json.dumps(curve))


if __name__ == "__main__":
    main()
