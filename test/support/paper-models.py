"""Checks of bench/paper/models that need PyTorch; prints JSON for paper-test.ts.

python3 test/support/paper-models.py
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bench/paper/models"))

import torch  # noqa: E402
from hard import turned  # noqa: E402
from mnist import Model as Mnist, normalised  # noqa: E402
from nets import outlines, pictures, residual  # noqa: E402
from srgan import psnr, ssim  # noqa: E402
from torch.nn import functional as F  # noqa: E402


def sub_batches():
    """The largest relative difference of the digits' gradients from those of one forward pass, without dropout."""
    model = Mnist(0)
    images = torch.randint(0, 256, (20, 28, 28), dtype=torch.uint8)
    classes = torch.arange(20) % 10
    model.eval()
    model.train = lambda: None  # `losses` would turn dropout on
    losses = model.losses({"images": images, "classes": classes, "weights": [1.0] * 10})
    logarithms = F.log_softmax(model.network(normalised(images)), 1)
    worst = torch.tensor(0.0)
    parameters = list(model.parameters())
    for digit, loss in enumerate(losses.values()):
        whole = -logarithms[classes == digit, digit].sum() / len(images)
        pairs = zip(
            torch.autograd.grad(loss, parameters), torch.autograd.grad(whole, parameters, retain_graph=True)
        )
        errors = torch.stack([(a - b).abs().max() / b.abs().max() for a, b in pairs])
        worst = torch.maximum(worst, errors.max())  # NaN stays NaN
    return worst.item()


torch.manual_seed(1)
block = torch.zeros(1, 28, 28, dtype=torch.uint8)
block[0, 10:14, 10:13] = 255
some = torch.rand(2, 1, 32, 32) * 1.8 - 1
one = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
print(
    json.dumps(
        {
            "subBatches": sub_batches(),
            "outline": outlines(pictures(block))[0, 0, 11:17, 11:16].int().tolist(),
            "psnr": psnr(some + 0.2, some).item(),
            "ssim": [ssim(some, some).item(), ssim(-some, some).item()],
            "turned": turned(one.repeat(2, 1, 1, 1), [0, 1])[:, 0].int().tolist(),
            "residual": [residual(some, some).item(), residual(some.mean(0, keepdim=True), some).item()],
        }
    )
)
