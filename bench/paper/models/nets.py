"""Networks, losses and pictures that several experiments use."""

import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)

# Pictures that pass a network at a time where no gradient is needed.
PART = 50


def pictures(images):
    """[n, 28, 28] bytes as [n, 1, 32, 32] from -1, the background, to 1."""
    return F.pad(images.float().unsqueeze(1) / 127.5 - 1, (2, 2, 2, 2), value=-1.0)


def outlines(of):
    """The pixels of ink that have a neighbour without ink, as 1 on -1."""
    ink = (of > -0.2).float()
    cross = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]])
    inside = F.conv2d(ink, cross, padding=1) == 4
    return 2 * ink * ~inside - 1


def in_parts(function, of):
    with torch.no_grad():
        return torch.cat([function(part) for part in of.split(PART)])


def scaled(batch, losses):
    """The losses, each times its weight in the batch."""
    return {name: weight * loss for (name, loss), weight in zip(losses.items(), batch["weights"])}


def real(logits):
    return F.softplus(-logits).mean()


def fake(logits):
    return F.softplus(logits).mean()


def residual(made, truth):
    """The squared error as a share of the variance."""
    return (made - truth).square().sum() / (truth - truth.mean(0)).square().sum()


def new_trunk():
    """[n, 1, 32, 32] to [n, 64]."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(2048, 64), nn.ReLU(),
    )  # fmt: skip


class Classifier(nn.Module):
    """Its features measure pictures: the trunk's 64, and the 32 maps of the second convolution."""

    def __init__(self):
        super().__init__()
        self.trunk = new_trunk()
        self.classes = nn.Linear(64, 10)

    def forward(self, of):
        return self.classes(self.trunk(of))

    def maps(self, of):
        return self.trunk[:4](of)

    def features(self, of):
        return in_parts(self.trunk, of)

    @classmethod
    def trained(cls, path):
        """The classifier in a file, fixed."""
        classifier = cls()
        classifier.load_state_dict(torch.load(path))
        return classifier.requires_grad_(False)


def start(network):
    """Draws the weights of convolutions from a normal distribution of deviation 0.03."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.03)
            nn.init.zeros_(layer.bias)
    return network


def up(of):
    # On CPUs an enlargement and a convolution are several times faster than a transposed convolution.
    return F.interpolate(of, scale_factor=2)


class UNet(nn.Module):
    """A picture to a picture: three convolutions down, three up, with a short cut at each size."""

    def __init__(self, width):
        super().__init__()
        self.down1 = nn.Conv2d(1, width, 4, 2, 1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, 2, 1)
        self.down3 = nn.Conv2d(2 * width, 4 * width, 4, 2, 1)
        self.up3 = nn.Conv2d(4 * width, 2 * width, 3, 1, 1)
        self.up2 = nn.Conv2d(4 * width, width, 3, 1, 1)
        self.up1 = nn.Conv2d(2 * width, 1, 3, 1, 1)
        start(self)

    def forward(self, of):
        half = self.down1(of)
        quarter = F.instance_norm(self.down2(F.leaky_relu(half, 0.2)))
        eighth = F.instance_norm(self.down3(F.leaky_relu(quarter, 0.2)))
        to_quarter = F.instance_norm(self.up3(up(F.relu(eighth))))
        to_half = F.instance_norm(self.up2(up(F.relu(torch.cat([to_quarter, quarter], 1)))))
        return torch.tanh(self.up1(up(F.relu(torch.cat([to_half, half], 1)))))


class Patches(nn.Module):
    """A logit for each of 8 × 8 patches of a picture."""

    def __init__(self, channels, width):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 4, 2, 1)
        self.second = nn.Conv2d(width, 2 * width, 4, 2, 1)
        self.last = nn.Conv2d(2 * width, 1, 3, 1, 1)
        start(self)

    def forward(self, *of):
        half = F.leaky_relu(self.first(torch.cat(of, 1)), 0.2)
        return self.last(F.leaky_relu(F.instance_norm(self.second(half)), 0.2))
