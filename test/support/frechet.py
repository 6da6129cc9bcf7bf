"""Computes the distances that paper-test.ts expects, with numpy and by the definition: the eigenvalues of C1 C2.

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
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(ca @ cb).real, 0))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * roots.sum()


print(repr(distance(samples(1, 300, 32, 1.0, 0.0), samples(2, 250, 32, 3.0, 0.5))))
print(repr(distance(samples(3, 200, 16, 2.0, 0.0, 4), samples(4, 200, 16, 5.0, 1.0, 4))))
