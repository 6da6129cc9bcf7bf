"""Fréchet distances with numpy, without the root of a matrix: the trace of the root of a product of covariances is the
sum of the singular values of AB', where A and B are the centred samples, each divided by the root of their number less
one. Prints the distances that paper-test.ts expects.

python3 test/support/frechet.py
"""

import numpy as np


def samples(seed, count, features, factor, shift, constant=0):
    """[count, features]: the same numbers as in test/support/paper.mjs. The last `constant` features do not vary."""
    state, rows = seed, np.zeros((count, features))
    for row in range(count):
        before = 0.0
        for k in range(features):
            state = state * 48271 % (2**31 - 1)
            before = factor * (state / (2**31 - 1)) + 0.3 * before + shift
            rows[row, k] = before if k < features - constant else shift
    return rows


def distance(a, b):
    centred = [(of - of.mean(0)) / np.sqrt(len(of) - 1) for of in (a, b)]
    traces = sum(np.square(of).sum() for of in centred)
    roots = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    return np.square(a.mean(0) - b.mean(0)).sum() + traces - 2 * roots


if __name__ == "__main__":
    print(repr(distance(samples(1, 300, 32, 1.0, 0.0), samples(2, 250, 32, 3.0, 0.5))))
    print(repr(distance(samples(3, 200, 16, 2.0, 0.0, 4), samples(4, 200, 16, 5.0, 1.0, 4))))
