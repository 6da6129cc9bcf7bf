from nets import in_parts, scaled
import torch
from torch import nn
from torch.nn import functional as F


def normalised(images):
    """[n, 28, 28] bytes as [n, 1, 28, 28] of mean 0 and deviation 1 over the training images."""
    return (images.float().unsqueeze(1) / 255 - 0.1307) / 0.3081


class Model(nn.Module):
    """Names digits. The terms are the losses of the ten digits."""

    terms = [f"digit {digit}" for digit in range(10)]

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.network = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
            nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
        )  # fmt: skip

    def losses(self, batch):
        self.train()
        images, classes = normalised(batch["images"]), batch["classes"].long()
        losses = {}
        for digit, term in enumerate(self.terms):
            # A forward pass per digit: backward passes through the whole batch would take longer.
            chosen = classes == digit
            logits = self.network(images[chosen])
            losses[term] = F.cross_entropy(logits, classes[chosen], reduction="sum") / len(images)
        return scaled(batch, losses)

    def evaluate(self, images, classes):
        """The error in percent."""
        self.eval()
        named = in_parts(self.network, normalised(images)).argmax(1)
        return {"class": 100 * (named != classes).float().mean()}
