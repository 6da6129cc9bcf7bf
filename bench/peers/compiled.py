"""MTAdam with summed first moments, left to torch.compile to be fused."""

import torch
from protocol import BETAS, DEVICE, EPS, LEAST_NORM, LR, require, serve

require(2, 4, "torch.compile of an optimizer")
import torch._dynamo  # noqa: E402, what is older has none


class CompiledMTAdam:
    def __init__(self, parameters, terms):
        self.parameters = parameters
        self.clock = 0
        self.norms = torch.zeros(terms, len(parameters), device=DEVICE)
        self.m = [torch.zeros_like(p) for p in parameters]
        self.v = [[torch.zeros_like(p) for p in parameters] for _ in range(terms)]
        self.compiled = torch.compile(step, dynamic=False)

    @torch.no_grad()
    def step(self, gradients):
        beta1, beta2, beta3 = BETAS
        self.clock += 1
        keep = scalar(0.0 if self.clock == 1 else beta3)
        rate = scalar(LR / (1 - beta1**self.clock))
        correction = scalar((1 - beta2**self.clock) ** 0.5)
        self.compiled(self.parameters, gradients, self.m, self.v, self.norms, keep, rate, correction)


def scalar(value):
    """A tensor: a number would be compiled in, and every step compiled anew."""
    return torch.full((), value, device=DEVICE)


def step(parameters, gradients, moments, seconds, norms, keep, rate, correction):
    beta1, beta2, _ = BETAS
    now = torch.stack([torch.stack([g.norm() for g in of_term]) for of_term in gradients])
    norms.copy_(keep * norms + (1 - keep) * now)
    counts = norms > LEAST_NORM
    anchor = norms.gather(0, counts.int().argmax(0, keepdim=True))
    scales = torch.where(counts, anchor / norms, torch.ones_like(norms))
    for index, parameter in enumerate(parameters):
        total, largest = None, None
        for term, of_term in enumerate(gradients):
            scaled = of_term[index] * scales[term, index]
            v = seconds[term][index]
            v.mul_(beta2).addcmul_(scaled, scaled, value=1 - beta2)
            total = scaled if total is None else total + scaled
            largest = v if largest is None else torch.maximum(largest, v)
        m = moments[index]
        m.mul_(beta1).add_(total, alpha=1 - beta1)
        parameter.sub_(rate * m / (largest.sqrt() / correction + EPS))


if __name__ == "__main__":
    serve(CompiledMTAdam, torch._dynamo.reset)
