"""All methods on one lesion: place, overlap, faithfulness, class discrimination, sanity."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medsal import Probe
from medsal.evaluate import similarity
from medsal.evaluate.randomise import copied, randomise, weighted_layers
from medsal.targets import ClassScore
from tests.benchmarks.truth import demo
from tests.benchmarks.truth.contenders import Contender, contenders
from tests.benchmarks.truth.figures import discrimination, faithfulness, overlap, place
from tests.benchmarks.truth.networks import Recipe, measured, right, unlabelled
from tests.benchmarks.truth.scenes import HELD_OUT, SEED_OF_CASES, Scene, both

#: Every so many lesions, the map is made again with all weights random.
SANITY = 3
#: How many scans Expected Gradients refers to.
REFERENCES = 4


@dataclass(frozen=True, eq=False)
class Stimulus:
    """What a network is asked about one lesion.

    Attributes:
        case: the scan with the lesion.
        other: the scan that tells whether maps of two classes differ: with a lesion of each class,
            or the same one.
        kinds: for each of its lesions, which of the classes is its own.
        classes: these two classes.
        references: scans for Expected Gradients, `(n, 1, *s)`.
        activation: that makes probabilities of the network's logits.
    """

    case: Scene
    other: Scene
    kinds: tuple[int, ...]
    classes: tuple[int, int]
    references: Tensor
    activation: str


def stimulus(recipe: Recipe, i: int) -> Stimulus:
    """The demo network sees windows of its scans here, so that all methods take minutes."""
    if recipe.family == demo.NAME:
        case = demo.window_of(i)
        references = torch.stack([demo.window_of(100 + j).image for j in range(REFERENCES)])
        return Stimulus(case, case, (case.label - 1,), (1, 2), references, "softmax")
    other = both(SEED_OF_CASES, i, (HELD_OUT,), recipe.lopsided)
    references = torch.stack([unlabelled(recipe, j).image for j in range(REFERENCES)])
    kinds = tuple(each.kind for each in other.lesions)
    return Stimulus(measured(recipe, i), other, kinds, (0, 1), references, "sigmoid")


def compared(recipe: Recipe, net: nn.Module, i: int) -> Iterator[dict[str, Any]]:
    """One row of figures for each contender, where the network is right; none where it is not."""
    asked = stimulus(recipe, i)
    image = asked.case.image[None]
    if not right(net, image, asked.case.label):
        return
    blank = without_learning(net, image) if i % SANITY == 0 else None
    head = {"network": recipe.name, "group": recipe.group, "case": i}
    for contender in contenders(recipe, asked.references):
        row = {**head, "method": contender.name, "kind": contender.kind}
        try:
            yield {**row, **figures(contender, net, asked, blank)}
        except Exception as error:  # what MONAI raises is a figure, too
            if contender.kind != "MONAI":
                raise
            yield {**row, "raises": f"{type(error).__name__}: {error}".splitlines()[0][:100]}


def figures(
    contender: Contender, net: nn.Module, asked: Stimulus, blank: nn.Module | None
) -> dict[str, float]:
    """What one contender's maps are worth."""
    case, image = asked.case, asked.case.image[None]
    saliency = contender.maps(net, image, [case.label]).detach()
    mask = case.masks[None, :1]
    maps = contender.maps(net, asked.other.image[None], list(asked.classes)).detach()
    found = {
        **place(saliency, mask, case.mm),
        **overlap(saliency, mask),
        **faithfulness(net, image, saliency, case.label, asked.activation),
        "own class": discrimination(maps, asked.other.masks, asked.kinds),
    }
    if blank is not None:
        other = contender.maps(blank, image, [case.label]).detach()
        found["like random weights"] = float(similarity(saliency, other).magnitude)
    return found


def without_learning(net: nn.Module, image: Tensor) -> nn.Module:
    """The network with all its weights drawn anew."""
    blank = copied(net)
    randomise(blank, weighted_layers(Probe(net, ClassScore(0)), image), seed=3)
    with torch.no_grad():
        # Fresh statistics of batch normalisation: of this scan, so that activations stay finite.
        blank.train()(image.expand(2, *image.shape[1:]).clone())
    return blank.eval()
