from hard import turned
from nets import in_parts, new_trunk, pictures, scaled
import torch
from torch import nn
from torch.nn import functional as F


class Model(nn.Module):
    """Two networks, one for classes and one for turns, and a term that keeps their trunks similar."""

    terms = ["class", "turn", "similar"]

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.class_trunk, self.turn_trunk = new_trunk(), new_trunk()
        self.classes = nn.Linear(64, 10)
        self.turns = nn.Linear(64, 4)

    def losses(self, batch):
        labelled = pictures(batch["labelled"])
        given = turned(pictures(batch["images"]), batch["turns"])
        pairs = zip(self.class_trunk.parameters(), self.turn_trunk.parameters())
        losses = {
            "class": F.cross_entropy(self.classes(self.class_trunk(labelled)), batch["classes"].long()),
            "turn": F.cross_entropy(self.turns(self.turn_trunk(given)), batch["turns"].long()),
            "similar": sum((a - b).square().sum() for a, b in pairs),
        }
        return scaled(batch, losses)

    @torch.no_grad()
    def evaluate(self, images, classes, turns):
        """The errors in percent."""
        upright = pictures(images)
        named = self.classes(in_parts(self.class_trunk, upright)).argmax(1)
        turn = self.turns(in_parts(self.turn_trunk, turned(upright, turns))).argmax(1)
        return {
            "class": 100 * (named != classes).float().mean(),
            "turn": 100 * (turn != turns).float().mean(),
        }
