from nets import in_parts, new_trunk, pictures, residual, scaled
import torch
from torch import nn
from torch.nn import functional as F


def turned(of, turns):
    """Each picture turned by its number of quarter turns."""
    return torch.stack([one.rot90(int(turn), (1, 2)) for one, turn in zip(of, turns)])


class Model(nn.Module):
    """One trunk with three heads: the class of a turned picture, its turn, and the picture itself."""

    terms = ["class", "turn", "picture"]

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = new_trunk()
        self.classes = nn.Linear(64, 10)
        self.turns = nn.Linear(64, 4)
        self.picture = nn.Linear(64, 1024)

    def losses(self, batch):
        given = turned(pictures(batch["images"]), batch["turns"])
        code = self.trunk(given)
        losses = {
            "class": F.cross_entropy(self.classes(code), batch["classes"].long()),
            "turn": F.cross_entropy(self.turns(code), batch["turns"].long()),
            # The sum over the pixels: hundreds of times as large as the other losses.
            "picture": (self.picture(code) - given.flatten(1)).square().sum(1).mean(),
        }
        return scaled(batch, losses)

    @torch.no_grad()
    def evaluate(self, images, classes, turns):
        """In percent: the errors, and what the reconstruction leaves of the variance."""
        given = turned(pictures(images), turns)
        code = in_parts(self.trunk, given)
        return {
            "class": 100 * (self.classes(code).argmax(1) != classes).float().mean(),
            "turn": 100 * (self.turns(code).argmax(1) != turns).float().mean(),
            "picture": 100 * residual(self.picture(code), given.flatten(1)),
        }
