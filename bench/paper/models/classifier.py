from nets import Classifier, in_parts, outlines, pictures
import torch
from torch.nn import functional as F


class Model(Classifier):
    """Learns the classes of pictures and of their outlines."""

    terms = ["class"]

    def __init__(self, seed):
        torch.manual_seed(seed)
        super().__init__()

    def losses(self, batch):
        filled = pictures(batch["images"])
        logits = self(torch.cat([filled, outlines(filled)]))
        return {"class": F.cross_entropy(logits, batch["classes"].long().repeat(2))}

    def accuracy(self, images, classes):
        """Of pictures, then of outlines."""
        filled = pictures(images)
        return [(in_parts(self, of).argmax(1) == classes).float().mean() for of in (filled, outlines(filled))]

    def save(self, path):
        torch.save(self.state_dict(), path)
