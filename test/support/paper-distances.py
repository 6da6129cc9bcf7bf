"""Fréchet distances of the features in the files given, with numpy; prints JSON for paper-models-test.ts.

The root of a product of covariances has the trace that is the sum of the singular values of AB', where A and B are the
centred samples, each divided by the root of their number less one.

python3 test/support/paper-distances.py FILE…
"""

import json
from pathlib import Path
import sys

import numpy as np


def distance(a, b):
    centred = [(of - of.mean(0)) / np.sqrt(len(of) - 1) for of in (a, b)]
    traces = sum(np.square(of).sum() for of in centred)
    roots = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    return np.square(a.mean(0) - b.mean(0)).sum() + traces - 2 * roots


def distances(file):
    """Of the pictures made, and of real inputs, to other real pictures: the means over the kinds of picture."""
    features = json.loads(Path(file).read_text())
    inputs, others, made = (
        {name: np.array(one["data"]).reshape(one["shape"]) for name, one in features[key].items()}
        for key in ("inputs", "others", "made")
    )

    def to_others(of):
        return np.mean([distance(of[name], others[name]) for name in others])

    return {"value": to_others(made), "floor": to_others(inputs)}


print(json.dumps({Path(file).stem: distances(file) for file in sys.argv[1:]}))
