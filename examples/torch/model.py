import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """Names the digit of an image, and draws the image again from 64 numbers."""

    terms = ["digit", "image"]

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(),
        )  # fmt: skip
        self.digit = nn.Linear(64, 10)
        self.image = nn.Linear(64, 784)

    def losses(self, batch):
        images = batch["images"].float() / 255
        code = self.trunk(images)
        return {
            "digit": F.cross_entropy(self.digit(code), batch["digits"].long()),
            # The sum over the pixels: hundreds of times as large as the other loss.
            "image": (self.image(code) - images.flatten(1)).square().sum(1).mean(),
        }

    @torch.no_grad()
    def accuracy(self, images, digits):
        """The share of the images whose digit is named."""
        return (self.digit(self.trunk(images.float() / 255)).argmax(1) == digits).float().mean()
