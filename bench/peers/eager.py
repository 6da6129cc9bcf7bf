"""MTAdam as an eager optimizer is usually written: one operation after the other, tensor by tensor and term by term."""

import torch
from protocol import BETAS, EPS, LEAST_NORM, LR, serve


class EagerMTAdam:
    def __init__(self, parameters, terms):
        self.parameters = parameters
        self.clock = 0
        self.norms = [[None] * terms for _ in parameters]
        self.m = [[torch.zeros_like(p) for _ in range(terms)] for p in parameters]
        self.v = [[torch.zeros_like(p) for _ in range(terms)] for p in parameters]

    @torch.no_grad()
    def step(self, gradients):
        beta1, beta2, beta3 = BETAS
        self.clock += 1
        correction1 = 1 - beta1**self.clock
        correction2 = 1 - beta2**self.clock
        for index, parameter in enumerate(self.parameters):
            norms = self.norms[index]
            direction, denominator = None, None
            for term, of_term in enumerate(gradients):
                gradient = of_term[index]
                norm = gradient.norm().item()
                known = norms[term]
                norms[term] = norm if known is None else beta3 * known + (1 - beta3) * norm
                if norms[term] > LEAST_NORM:
                    anchor = next(n for n in norms if n is not None and n > LEAST_NORM)
                    gradient = gradient * (anchor / norms[term])
                m, v = self.m[index][term], self.v[index][term]
                m.mul_(beta1).add_(gradient, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                own = (v.sqrt() / correction2**0.5).add_(EPS)
                part = m * (LR / correction1)
                direction = part if direction is None else direction + part
                denominator = own if denominator is None else torch.max(denominator, own)
            parameter.sub_(direction / denominator)


if __name__ == "__main__":
    serve(EagerMTAdam)
