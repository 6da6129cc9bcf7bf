from nets import Classifier, Patches, fake, in_parts, pictures, real, scaled
import torch
from torch import nn
from torch.nn import functional as F


class Enlarger(nn.Module):
    """[n, 1, 8, 8] to [n, 1, 32, 32]."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, 1, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1))
            for _ in range(3)
        )
        self.to_half = nn.Conv2d(width, 4 * width, 3, 1, 1)
        self.to_full = nn.Conv2d(width, 4 * width, 3, 1, 1)
        self.last = nn.Conv2d(width, 1, 3, 1, 1)

    def forward(self, of):
        first = values = F.relu(self.first(of))
        for block in self.blocks:
            values = values + block(values)
        half = F.relu(F.pixel_shuffle(self.to_half(values + first), 2))
        return torch.tanh(self.last(F.relu(F.pixel_shuffle(self.to_full(half), 2))))


def unit(of):
    """From [-1, 1] to [0, 1]."""
    return (of + 1) / 2


def psnr(made, truth):
    """Peak signal-to-noise ratio in dB, the mean over the pictures."""
    return (-10 * (unit(made) - unit(truth)).square().mean((1, 2, 3)).clamp_min(1e-10).log10()).mean()


def ssim(made, truth):
    """Structural similarity (Wang et al. 2004): a Gaussian window of 11 pixels and deviation 1.5."""
    line = torch.exp(-torch.arange(-5.0, 6.0).square() / (2 * 1.5**2))
    line = line / line.sum()
    window = (line[:, None] * line[None, :])[None, None]

    def local(of):
        return F.conv2d(of, window)

    a, b = unit(made), unit(truth)
    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    both = local(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return (
        (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    ).mean()


class Model(nn.Module):
    """Pictures of a quarter of the resolution to pictures."""

    terms = ["pixels", "features", "adversarial", "critic"]

    def __init__(self, seed, width, classifier):
        super().__init__()
        torch.manual_seed(seed)
        self.generator = Enlarger(width)
        self.critic = Patches(1, width)
        self.classifier = Classifier.trained(classifier)
        self.made = None

    def losses(self, batch):
        truth = pictures(batch["images"])
        if batch["part"] == "critic":
            return {"critic": (real(self.critic(truth)) + fake(self.critic(self.made))) / 2}
        made = self.generator(F.avg_pool2d(truth, 4))
        self.made = made.detach()
        maps = self.classifier.maps
        losses = {
            "pixels": F.mse_loss(made, truth),
            "features": F.mse_loss(maps(made), maps(truth)),
            "adversarial": real(self.critic(made)),
        }
        return scaled(batch, losses)

    def reference(self, images):
        return {"pictures": self.classifier.features(pictures(images))}

    def evaluate(self, images):
        truth = pictures(images)
        made = in_parts(self.generator, F.avg_pool2d(truth, 4))
        return {
            "features": {"pictures": self.classifier.features(made)},
            "figures": {"psnr": psnr(made, truth), "ssim": ssim(made, truth)},
        }

    def samples(self, images):
        truth = pictures(images)
        small = F.avg_pool2d(truth, 4)
        given = torch.stack([F.interpolate(small, scale_factor=4), truth])
        return {"given": given, "made": in_parts(self.generator, small).unsqueeze(0)}
