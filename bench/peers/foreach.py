"""MTAdam with torch._foreach: one call for all tensors wherever there is one, no value of a tensor awaited but the
scales, and what all terms share taken once: their clock, so one square root and one sum of moments."""

import torch
from protocol import BETAS, EPS, LEAST_NORM, LR, serve


class ForeachMTAdam:
    def __init__(self, parameters, terms):
        self.parameters = parameters
        self.clock = 0
        self.norms = None  # terms × tensors
        self.m = [[torch.zeros_like(p) for p in parameters] for _ in range(terms)]
        self.v = [[torch.zeros_like(p) for p in parameters] for _ in range(terms)]

    @torch.no_grad()
    def step(self, gradients):
        beta1, beta2, _ = BETAS
        self.clock += 1
        largest = None
        for term, scales in enumerate(self.scales(gradients)):
            m, v = self.m[term], self.v[term]
            scaled = torch._foreach_mul(gradients[term], scales)
            torch._foreach_mul_(m, beta1)
            torch._foreach_add_(m, scaled, alpha=1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, scaled, scaled, 1 - beta2)
            largest = v if largest is None else torch._foreach_maximum(largest, v)
        denominator = torch._foreach_sqrt(largest)
        torch._foreach_div_(denominator, (1 - beta2**self.clock) ** 0.5)
        torch._foreach_add_(denominator, EPS)
        total = self.m[0]
        for m in self.m[1:]:
            total = torch._foreach_add(total, m)
        torch._foreach_addcdiv_(self.parameters, total, denominator, -LR / (1 - beta1**self.clock))

    def scales(self, gradients):
        beta3 = BETAS[2]
        norms = torch.stack([torch.stack(list(torch._foreach_norm(of_term))) for of_term in gradients]).double()
        self.norms = norms if self.norms is None else beta3 * self.norms + (1 - beta3) * norms
        counts = self.norms > LEAST_NORM
        # The first term that counts in a tensor is its anchor.
        anchor = self.norms.gather(0, counts.int().argmax(0, keepdim=True))
        return torch.where(counts, anchor / self.norms, torch.ones_like(self.norms)).tolist()


if __name__ == "__main__":
    serve(ForeachMTAdam)
