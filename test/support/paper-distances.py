"""Fréchet distances of the features in the files given, with numpy; prints JSON for paper-models-test.ts.

python3 test/support/paper-distances.py FILE…
"""

import json
from pathlib import Path
import sys

from frechet import distance
import numpy as np


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
