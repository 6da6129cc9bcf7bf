"""The losses and figures of bench/paper/models beside their formulas; prints JSON for paper-models-test.ts.

Only the networks are the models' own: numpy computes pictures, outlines, turns, losses and figures anew.

python3 test/support/paper-losses.py FOLDER
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bench/paper/models"))

from cyclegan import Model as CycleGan  # noqa: E402
from hard import Model as Hard  # noqa: E402
from mnist import Model as Mnist  # noqa: E402
from nets import Classifier, UNet  # noqa: E402
import numpy as np  # noqa: E402
from numpy.lib.stride_tricks import sliding_window_view  # noqa: E402
from pix2pix import Model as Pix2Pix  # noqa: E402
from soft import Model as Soft  # noqa: E402
from srgan import Model as SrGan, psnr, ssim  # noqa: E402
import torch  # noqa: E402

# More than one part of `in_parts`.
JUDGED = 60

draws = np.random.default_rng(1)


def blocks(count):
    """[count, 28, 28] bytes: a rectangle of uneven ink on each."""
    images = np.zeros((count, 28, 28), np.uint8)
    for image in images:
        row, column = draws.integers(2, 12, 2)
        height, width = draws.integers(6, 14, 2)
        image[row : row + height, column : column + width] = draws.integers(80, 256, (height, width))
    return images


def picture(images):
    of = np.full((len(images), 1, 32, 32), -1, np.float32)
    of[:, 0, 2:30, 2:30] = images.astype(np.float32) / 127.5 - 1
    return of


def outline(of):
    ink = of > -0.2
    around = np.pad(ink, ((0, 0), (0, 0), (1, 1), (1, 1)))
    inside = around[..., :-2, 1:-1] & around[..., 2:, 1:-1] & around[..., 1:-1, :-2] & around[..., 1:-1, 2:]
    return np.where(ink & ~inside, 1, -1).astype(np.float32)


def turned(of, turns):
    return np.stack([np.rot90(one[0], turn)[None] for one, turn in zip(of, turns)])


def quarter(of):
    return of.reshape(len(of), 1, 8, 4, 8, 4).mean((3, 5))


def apply(network, *of):
    with torch.no_grad():
        return network(*(torch.from_numpy(np.ascontiguousarray(one)) for one in of)).numpy()


def cross_entropy(logits, classes):
    """Of each example."""
    shares = np.exp(logits.astype(np.float64))
    return -np.log(shares[np.arange(len(classes)), classes] / shares.sum(1))


def judged_real(logits):
    return np.log(1 + np.exp(-logits.astype(np.float64))).mean()


def judged_made(logits):
    return np.log(1 + np.exp(logits.astype(np.float64))).mean()


def difference(a, b):
    return np.abs(a.astype(np.float64) - b).mean()


def squared(a, b):
    return np.square(a.astype(np.float64) - b).mean()


def percent_wrong(logits, classes):
    return 100 * np.mean(logits.argmax(1) != classes)


def batch_of(**arrays):
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


def larger(*networks):
    """A new U-Net makes pictures near 0, and a new critic logits near 0: real and made pictures would hardly differ."""
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                parameter *= 10


def centred(head, code):
    """Takes the mean of the logits from a new head, which would name all pictures alike."""
    with torch.no_grad():
        head.bias -= torch.from_numpy(apply(head, code).mean(0))


def ratios(model, batch, terms):
    """Row by row the weight of one term is 3: how many times as large each loss is then."""

    def values(weights):
        losses = model.losses({**batch, "weights": weights.tolist()})
        return np.array([losses[term].item() for term in terms])

    base = values(np.ones(len(terms)))
    return [(values(row) / base).tolist() for row in np.where(np.eye(len(terms)) == 1, 3.0, 1.0)]


def trained(model):
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def reached(model, loss, groups):
    """The groups of parameters that the loss has gradients for; "… in part" where it has none for some of a group."""
    parameters = trained(model)
    found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    found = dict(zip(parameters, found))
    answer = []
    for group in groups:
        of = [one for name, one in found.items() if name.startswith(group + ".")]
        present = sum(one is not None for one in of)
        if present == len(of) and any(one.abs().max() > 0 for one in of):
            answer.append(group)
        elif present > 0:
            answer.append(group + " in part")
    return answer


def report(model, batch, expected, groups, balanced):
    """The losses of one batch, with the first `balanced` terms in one call and the critic's in another."""
    terms = model.terms
    batch = {**batch, "part": "generator"}
    losses = model.losses({**batch, "weights": [1.0] * balanced})
    order = list(losses)
    if balanced < len(terms):
        adversary = model.losses({**batch, "part": "critic"})
        order += list(adversary)
        losses = {**losses, **adversary}
    return {
        "terms": terms,
        "order": order,
        "losses": {term: [losses[term].item(), float(expected[term])] for term in terms},
        "ratios": ratios(model, batch, terms[:balanced]),
        "reached": {term: reached(model, losses[term], groups) for term in terms},
        "parameters": sorted({name.split(".")[0] for name in trained(model)}),
    }


def compared(made, expected):
    """The shape of a tensor, and its largest difference from the expected one."""
    made = made.numpy()
    error = np.abs(made - expected).max() if made.shape == expected.shape else np.nan
    return {"shape": list(made.shape), "error": float(np.nan_to_num(error, nan=1e9))}


def beside(values, expected):
    """Each value, a tensor without dimensions, and the expected one."""
    return {name: [values[name].item(), float(value)] for name, value in expected.items()}


def made_pictures(model, features, figures, given, made):
    """What `evaluate`, `reference` and `samples` return for the judged images.

    `features` holds the pictures made and the true ones, by their kind.
    """
    of = torch.from_numpy(images)
    evaluated, reference, samples = model.evaluate(of), model.reference(of), model.samples(of)
    trunk = model.classifier.trunk
    found = evaluated["features"]
    return {
        "keys": [sorted(evaluated), sorted(evaluated["figures"]), sorted(samples)],
        "features": {name: compared(found[name], apply(trunk, one)) for name, (one, _) in features.items()},
        "reference": {
            name: compared(reference[name], apply(trunk, one)) for name, (_, one) in features.items()
        },
        "figures": beside(evaluated["figures"], figures),
        "samples": {"given": compared(samples["given"], given), "made": compared(samples["made"], made)},
    }


def named(model, arguments, expected):
    """What `evaluate` returns where it has figures only."""
    evaluated = model.evaluate(**batch_of(**arguments))
    return {
        "keys": sorted(evaluated),
        "shapes": [list(value.shape) for value in evaluated.values()],
        "figures": beside(evaluated, expected),
    }


def decibels(made, truth):
    """PSNR of each picture; those given range from -1 to 1."""
    return np.array([-10 * np.log10(squared((a + 1) / 2, (b + 1) / 2)) for a, b in zip(made, truth)])


def similarity(a, b):
    """SSIM of two pictures, [32, 32] from -1 to 1: Wang et al. (2004) with K₁ = 0.01, K₂ = 0.03 and L = 1."""
    distance = np.square(np.arange(11) - 5)
    window = np.exp(-(distance[:, None] + distance[None, :]) / (2 * 1.5**2))
    window /= window.sum()

    def local(of):
        return (window * of).sum((2, 3), keepdims=True)

    x, y = (sliding_window_view((of.astype(np.float64) + 1) / 2, (11, 11)) for of in (a, b))
    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local((x - mean_x) ** 2), local((y - mean_y) ** 2)
    both = local((x - mean_x) * (y - mean_y))
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return np.mean(luminance * (2 * both + 0.03**2) / (var_x + var_y + 0.03**2))


def pix2pix():
    model = Pix2Pix(1, 2, classifier)
    larger(model.generator, model.critic)
    truth = picture(few)
    given = outline(truth)
    made = apply(model.generator, given)
    judged_given = apply(model.critic, given, made)
    expected = {
        "adversarial": judged_real(judged_given),
        "pixels": difference(made, truth),
        "critic": (judged_real(apply(model.critic, given, truth)) + judged_made(judged_given)) / 2,
    }
    answer = report(model, batch_of(images=few), expected, ["generator", "critic"], 2)
    truth = picture(images)
    given = outline(truth)
    made = apply(model.generator, given)
    figures = {"l1": difference(made, truth)}
    return {
        **answer,
        **made_pictures(model, {"pictures": (made, truth)}, figures, np.stack([given, truth]), made[None]),
    }


def srgan():
    model = SrGan(1, 2, classifier)
    larger(model.critic)
    convolution1, _, convolution2 = model.classifier.trunk[:3]

    def maps(of):
        return np.maximum(apply(convolution2, np.maximum(apply(convolution1, of), 0)), 0)

    truth = picture(few)
    made = apply(model.generator, quarter(truth))
    expected = {
        "pixels": squared(made, truth),
        "features": squared(maps(made), maps(truth)),
        "adversarial": judged_real(apply(model.critic, made)),
        "critic": (judged_real(apply(model.critic, truth)) + judged_made(apply(model.critic, made))) / 2,
    }
    answer = report(model, batch_of(images=few), expected, ["generator", "critic"], 3)
    truth = picture(images)
    made = apply(model.generator, quarter(truth))
    figures = {
        "psnr": decibels(made, truth).mean(),
        "ssim": np.mean([similarity(a[0], b[0]) for a, b in zip(made, truth)]),
    }
    given = np.stack([quarter(truth).repeat(4, 2).repeat(4, 3), truth])
    return {**answer, **made_pictures(model, {"pictures": (made, truth)}, figures, given, made[None])}


def cyclegan():
    model = CycleGan(1, 2, classifier)
    larger(model.generator, model.critic)
    to_outline, to_picture = model.generator["outline"], model.generator["fill"]
    of_pictures, of_outlines = model.critic["pictures"], model.critic["outlines"]
    filled, lines = picture(few), outline(picture(others))
    made_lines, made_filled = apply(to_outline, filled), apply(to_picture, lines)
    right = squared(apply(of_pictures, filled), 1) + squared(apply(of_outlines, lines), 1)
    wrong = squared(apply(of_pictures, made_filled), 0) + squared(apply(of_outlines, made_lines), 0)
    expected = {
        "outlines adversarial": squared(apply(of_outlines, made_lines), 1),
        "pictures adversarial": squared(apply(of_pictures, made_filled), 1),
        "pictures cycle": difference(apply(to_picture, made_lines), filled),
        "outlines cycle": difference(apply(to_outline, made_filled), lines),
        "pictures identity": difference(apply(to_picture, filled), filled),
        "outlines identity": difference(apply(to_outline, lines), lines),
        "critics": (right + wrong) / 2,
    }
    groups = ["generator.outline", "generator.fill", "critic.pictures", "critic.outlines"]
    answer = report(model, batch_of(images=few, others=others), expected, groups, 6)
    filled = picture(images)
    lines = outline(filled)
    made_lines, made_filled = apply(to_outline, filled), apply(to_picture, lines)
    features = {"pictures": (made_filled, filled), "outlines": (made_lines, lines)}
    figures = {"l1": (difference(made_lines, lines) + difference(made_filled, filled)) / 2}
    given, made = np.stack([filled, lines]), np.stack([made_lines, made_filled])
    with torch.no_grad():
        plain = UNet.forward(to_outline, torch.from_numpy(filled)).numpy()
    return {
        **answer,
        **made_pictures(model, features, figures, given, made),
        "plain": {"error": float(np.abs(plain - made_lines).max()), "size": float(np.abs(plain).max())},
    }


def hard():
    model = Hard(1)
    given = turned(picture(few), few_turns)
    code = apply(model.trunk, given)
    rebuilt = apply(model.picture, code)
    expected = {
        "class": cross_entropy(apply(model.classes, code), few_classes).mean(),
        "turn": cross_entropy(apply(model.turns, code), few_turns).mean(),
        "picture": 1024 * squared(rebuilt, given.reshape(-1, 1024)),
    }
    groups = ["trunk", "classes", "turns", "picture"]
    batch = batch_of(images=few, classes=few_classes, turns=few_turns)
    answer = report(model, batch, expected, groups, 3)
    given = turned(picture(images), turns)
    code = apply(model.trunk, given)
    centred(model.classes, code)
    centred(model.turns, code)
    flat = given.reshape(-1, 1024)
    unexplained = squared(apply(model.picture, code), flat) / squared(flat, flat.mean(0))
    figures = {
        "class": percent_wrong(apply(model.classes, code), classes),
        "turn": percent_wrong(apply(model.turns, code), turns),
        "picture": 100 * unexplained,
    }
    return {**answer, "evaluate": named(model, judged, figures)}


def soft():
    model = Soft(1)
    # The classes belong to `labelled`, the turns to `images`.
    named_logits = apply(model.classes, apply(model.class_trunk, picture(others)))
    turn_logits = apply(model.turns, apply(model.turn_trunk, turned(picture(few), few_turns)))
    a, b = (
        np.concatenate([one.detach().numpy().ravel() for one in trunk.parameters()])
        for trunk in (model.class_trunk, model.turn_trunk)
    )
    expected = {
        "class": cross_entropy(named_logits, few_classes).mean(),
        "turn": cross_entropy(turn_logits, few_turns).mean(),
        "similar": len(a) * squared(a, b),
    }
    groups = ["class_trunk", "turn_trunk", "classes", "turns"]
    batch = batch_of(labelled=others, classes=few_classes, images=few, turns=few_turns)
    answer = report(model, batch, expected, groups, 3)
    upright = apply(model.class_trunk, picture(images))
    by_turns = apply(model.turn_trunk, turned(picture(images), turns))
    centred(model.classes, upright)
    centred(model.turns, by_turns)
    figures = {
        "class": percent_wrong(apply(model.classes, upright), classes),
        "turn": percent_wrong(apply(model.turns, by_turns), turns),
    }
    return {**answer, "evaluate": named(model, judged, figures)}


def mnist():
    model = Mnist(1)
    model.eval()
    normalised = ((images.astype(np.float32) / 255 - 0.1307) / 0.3081)[:, None]
    centred(model.network[-1], apply(model.network[:-1], normalised))
    logits = apply(model.network, normalised)
    # Its own classes, but for 20 images: dropout would change some of them.
    own = (logits.argmax(1) + (np.arange(JUDGED) < 20)).astype(np.uint8) % 10
    judged = {"images": images, "classes": own}
    # Digit 3 has three pictures of twelve.
    some = np.array([*range(10), 13, 23])
    batch = batch_of(images=images[some], classes=classes[some])

    def total():
        return sum(loss.item() for loss in model.losses({**batch, "weights": [1.0] * 10}).values())

    def error():
        return model.evaluate(**batch_of(**judged))["class"].item()

    dropout = {"losses": [total(), total()], "evaluations": [error(), error()], "again": [total(), total()]}
    evaluated = named(model, judged, {"class": percent_wrong(logits, own)})
    model.train = lambda: model  # `losses` would turn dropout on again
    entropies = cross_entropy(logits, classes)[some]
    expected = {f"digit {digit}": entropies[classes[some] == digit].sum() / len(some) for digit in range(10)}
    return {
        **report(model, batch, expected, ["network"], 10),
        "evaluate": evaluated,
        "dropout": dropout,
    }


def qualities():
    """PSNR and SSIM of two fixed pictures, each made in its own way from its truth, beside the formulas."""
    rows, columns = np.mgrid[0:32, 0:32].astype(np.float32) / 32
    truth = np.stack([np.sin(7 * rows + 3 * columns), np.cos(9 * rows * columns)])[:, None]
    made = np.stack([0.6 * truth[0] + 0.2 * np.cos(20 * columns), truth[1] ** 3 - 0.1])
    both, first, second = slice(0, 2), slice(0, 1), slice(1, 2)
    tensors = torch.from_numpy(made), torch.from_numpy(truth)
    similarities = np.array([similarity(a[0], b[0]) for a, b in zip(made, truth)])
    return {
        "psnr": [psnr(*tensors).item(), float(decibels(made, truth).mean())],
        "ssim": [
            [ssim(*(of[which] for of in tensors)).item(), float(similarities[which].mean())]
            for which in (first, second, both)
        ],
    }


torch.manual_seed(1)
classifier = str(Path(sys.argv[1]) / "classifier.pt")
torch.save(Classifier().state_dict(), classifier)
few, others, images = blocks(4), blocks(4), blocks(JUDGED)
few_classes, few_turns = np.array([3, 0, 9, 5], np.uint8), np.array([1, 0, 3, 2], np.uint8)
classes = (np.arange(JUDGED) % 10).astype(np.uint8)
turns = draws.integers(0, 4, JUDGED).astype(np.uint8)
judged = {"images": images, "classes": classes, "turns": turns}
models = [pix2pix, srgan, cyclegan, hard, soft, mnist]
print(json.dumps({"models": {of.__name__: of() for of in models}, "qualities": qualities()}))
