from nets import Classifier, Patches, UNet, fake, in_parts, outlines, pictures, real, scaled
import torch
from torch import nn


class Model(nn.Module):
    """Outlines to pictures, by pairs."""

    terms = ["adversarial", "pixels", "critic"]

    def __init__(self, seed, width, classifier):
        super().__init__()
        torch.manual_seed(seed)
        self.generator = UNet(width)
        self.critic = Patches(2, width)
        self.classifier = Classifier.trained(classifier)
        self.made = None

    def losses(self, batch):
        truth = pictures(batch["images"])
        given = outlines(truth)
        if batch["part"] == "critic":
            return {"critic": (real(self.critic(given, truth)) + fake(self.critic(given, self.made))) / 2}
        made = self.generator(given)
        self.made = made.detach()
        return scaled(
            batch, {"adversarial": real(self.critic(given, made)), "pixels": (made - truth).abs().mean()}
        )

    def reference(self, images):
        return {"pictures": self.classifier.features(pictures(images))}

    def evaluate(self, images):
        truth = pictures(images)
        made = in_parts(self.generator, outlines(truth))
        return {
            "features": {"pictures": self.classifier.features(made)},
            "figures": {"l1": (made - truth).abs().mean()},
        }

    def samples(self, images):
        truth = pictures(images)
        given = outlines(truth)
        return {"given": torch.stack([given, truth]), "made": in_parts(self.generator, given).unsqueeze(0)}
