from nets import Classifier, Patches, UNet, in_parts, outlines, pictures, scaled
import torch
from torch import nn
from torch.nn import functional as F

# By parity of the row in the enlarged map: how the three rows of a kernel fall on three rows of the small map.
ROWS = torch.tensor([[[1.0, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]])
# The same for both directions: a kernel's 9 values to those of the 4 kernels.
PLACES = torch.einsum("iak,jbl->klijab", ROWS, ROWS).reshape(9, 36)


def enlarged(of, convolution):
    """The convolution of `of` at twice the size, as one convolution of the small maps for each parity."""
    made, given = convolution.weight.shape[:2]
    placed = (convolution.weight.reshape(-1, 9) @ PLACES).reshape(made, given, 4, 3, 3)
    kernels = placed.transpose(1, 2).flatten(0, 1)
    return F.pixel_shuffle(F.conv2d(of, kernels, convolution.bias.repeat_interleave(4), padding=1), 2)


def relu(of):
    # The gradient of F.relu takes ten times as long.
    return F.leaky_relu(of, 0.0)


class Generator(UNet):
    """Computes the same in two thirds of the time: convolutions to a single large map are slow.

    UNet itself stays as it is, since its rounding is that of the results of pix2pix.
    """

    def forward(self, of):
        half = self.down1(of)
        quarter = F.instance_norm(self.down2(F.leaky_relu(half, 0.2)))
        eighth = F.instance_norm(self.down3(F.leaky_relu(quarter, 0.2)))
        to_quarter = F.instance_norm(enlarged(relu(eighth), self.up3))
        to_half = F.instance_norm(enlarged(relu(torch.cat([to_quarter, quarter], 1)), self.up2))
        return torch.tanh(enlarged(relu(torch.cat([to_half, half], 1)), self.up1))


def distance(a, b):
    return (a - b).abs().mean()


def judged(logits, target):
    return (logits - target).square().mean()


class Model(nn.Module):
    """Pictures to outlines and back, without pairs."""

    terms = [
        "outlines adversarial", "pictures adversarial",
        "pictures cycle", "outlines cycle",
        "pictures identity", "outlines identity",
        "critics",
    ]  # fmt: skip

    def __init__(self, seed, width, classifier):
        super().__init__()
        torch.manual_seed(seed)
        self.generator = nn.ModuleDict({"outline": Generator(width), "fill": Generator(width)})
        self.critic = nn.ModuleDict({"pictures": Patches(1, width), "outlines": Patches(1, width)})
        self.classifier = Classifier.trained(classifier)
        self.made = None

    def losses(self, batch):
        filled, lines = pictures(batch["images"]), outlines(pictures(batch["others"]))
        judge_picture, judge_outline = self.critic["pictures"], self.critic["outlines"]
        if batch["part"] == "critic":
            made_picture, made_outline = self.made
            right = judged(judge_picture(filled), 1) + judged(judge_outline(lines), 1)
            return {"critics": (right + judged(judge_picture(made_picture), 0) + judged(judge_outline(made_outline), 0)) / 2}
        outline, fill = self.generator["outline"], self.generator["fill"]
        made_outline, made_picture = outline(filled), fill(lines)
        self.made = made_picture.detach(), made_outline.detach()
        losses = [
            judged(judge_outline(made_outline), 1),
            judged(judge_picture(made_picture), 1),
            distance(fill(made_outline), filled),
            distance(outline(made_picture), lines),
            distance(fill(filled), filled),
            distance(outline(lines), lines),
        ]
        return scaled(batch, dict(zip(self.terms, losses)))

    def reference(self, images):
        filled = pictures(images)
        return {
            "pictures": self.classifier.features(filled),
            "outlines": self.classifier.features(outlines(filled)),
        }

    def evaluate(self, images):
        filled = pictures(images)
        lines = outlines(filled)
        made_lines, made_filled = self.translate(filled, lines)
        return {
            "features": {
                "pictures": self.classifier.features(made_filled),
                "outlines": self.classifier.features(made_lines),
            },
            "figures": {"l1": (distance(made_lines, lines) + distance(made_filled, filled)) / 2},
        }

    def samples(self, images):
        filled = pictures(images)
        lines = outlines(filled)
        return {"given": torch.stack([filled, lines]), "made": torch.stack(self.translate(filled, lines))}

    def translate(self, filled, lines):
        return in_parts(self.generator["outline"], filled), in_parts(self.generator["fill"], lines)
