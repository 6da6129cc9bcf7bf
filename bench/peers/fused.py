"""PyTorch's fused Adam on the sum of the terms, which is given: what one term costs, as a bound."""

import torch
from protocol import BETAS, DEVICE, EPS, LR, require, serve

if DEVICE.type == "cpu":
    require(2, 4, "Fused Adam on the CPU")
else:
    require(2, 0, "Fused Adam on a GPU")


class FusedAdam:
    def __init__(self, parameters, terms):
        self.parameters = parameters
        self.given = None
        self.adam = torch.optim.Adam(parameters, lr=LR, betas=BETAS[:2], eps=EPS, fused=True)

    def step(self, gradients):
        if gradients is not self.given:  # whoever gives the same lists again has changed nothing in them
            self.given = gradients
            for index, parameter in enumerate(self.parameters):
                parameter.grad = torch.stack([of_term[index] for of_term in gradients]).sum(0)
        self.adam.step()


if __name__ == "__main__":
    serve(FusedAdam)
