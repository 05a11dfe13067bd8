"""Does the map depend on what the network learned, and on what it is asked?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from medsal.evaluate.arguments import check_choice, checked_map, map_of, one_target, settled
from medsal.evaluate.randomise import (
    How,
    copied,
    grouped,
    put_back,
    randomise,
    weighted_layers,
    weights_of,
)
from medsal.evaluate.similarity import Similarity, pairwise, similarity, stacked
from medsal.methods import Explainer, maps_of
from medsal.methods.many import check_count
from medsal.probe import Probe, plain, quietly
from medsal.types import Image, Map

Mode = Literal["cascading", "independent"]


@dataclass(frozen=True, eq=False)
class Randomisation:
    """How alike a map stays while the network loses what it learned.

    Attributes:
        mode: ``"cascading"`` or ``"independent"``.
        layers: the layers that were randomised at each step, from the output to the input.
        similarity: of the map after each step to the map of the network as it is, ``(n, m)``.
    """

    mode: Mode
    layers: tuple[tuple[str, ...], ...]
    similarity: Similarity


def randomisation(
    probe: Probe,
    image: Image,
    method: Explainer,
    *,
    mode: Mode = "cascading",
    how: How = "reset",
    steps: int | None = None,
    seed: int = 0,
) -> Randomisation:
    """The model parameter randomisation test (MPRT).

    The map is made again with layers randomised, from the output to the input: all down to a layer
    (cascading), or that layer alone (independent). A map that shows what the network learned
    becomes another one. One that stays nearly as it was shows the image, whatever the network
    knows. The model is not touched: a copy loses its weights.

    Source: Adebayo et al., 2018, "Sanity Checks for Saliency Maps", arXiv:1810.03292, section 3.

    Args:
        probe: with one target, which is settled at the image by the network as it is.
        image: ``(n, c, *s)``.
        method: what makes the map.
        mode: ``"cascading"`` or ``"independent"``.
        how: how weights are drawn; see `randomise`.
        steps: groups of neighbouring layers that are randomised together; None = one by one.
        seed: of the weights.

    Raises:
        TypeError: when the model can't be copied.
        ValueError: when it has no weights, or an option is out of its range.
    """
    image = plain(image)
    whole = map_of(method, settled(one_target(probe), image, method), image)
    randomised = randomised_maps(probe, image, method, mode=mode, how=how, steps=steps, seed=seed)
    layers, found = [], []
    for names, saliency in randomised:
        layers.append(names)
        found.append(similarity(whole, saliency))
    return Randomisation(
        mode,
        tuple(layers),
        stacked(found),
    )


def randomised_maps(
    probe: Probe,
    image: Image,
    method: Explainer,
    *,
    mode: Mode = "cascading",
    how: How = "reset",
    steps: int | None = None,
    seed: int = 0,
) -> Iterator[tuple[tuple[str, ...], Map]]:
    """The maps that `randomisation` compares, one at a time, with the layers of each step."""
    check_choice("mode", mode, ("cascading", "independent"))
    check_count("steps", 1 if steps is None else steps)
    image = plain(image)
    layers = weighted_layers(probe, image)
    if not layers:
        raise ValueError(f"expected a model with weights, {type(probe.model).__name__} has none")
    asked = settled(one_target(probe), image, method)
    asked = replace(asked, model=copied(asked.model))
    for i, names in enumerate(grouped(layers, steps)):
        held = weights_of(asked.model, names) if mode == "independent" else {}
        randomise(asked.model, names, how, seed + i)
        with quietly():
            saliency = map_of(method, asked, image)
        yield names, saliency
        if mode == "independent":
            put_back(asked.model, names, held)


@quietly()
def label_randomisation(
    probe: Probe, image: Image, method: Explainer, model: nn.Module
) -> Similarity:
    """The data randomisation test: the map of a network trained on random labels, each ``(n,)``.

    Source: Adebayo et al., 2018, arXiv:1810.03292, section 4: a network that fits labels drawn at
    random learned nothing of the classes; a map that stays the same does not show what was learned.

    Args:
        probe: of the network trained on the true labels; its target is settled there.
        image: ``(n, c, *s)``.
        method: what makes the maps.
        model: the same architecture, trained on the same images with labels drawn at random.
    """
    image = plain(image)
    asked = settled(one_target(probe), image, method)
    other = Probe(model, asked.target, asked.forward_kwargs)
    return similarity(map_of(method, asked, image), map_of(method, other, image))


@quietly()
def target_sensitivity(probe: Probe, image: Image, method: Explainer) -> Similarity:
    """How alike the maps of several targets are: matrices ``(n, t, t)``.

    A method that shows why this class and not that one gives maps that differ. With two logits that
    oppose each other, a signed map of one is nearly the other's with the sign turned: a rank
    correlation of -1, one of the magnitudes of 1.

    Source: Selvaraju et al., 2017, arXiv:1610.02391, section 4.2 (class discrimination); Sixt et
    al., 2020, "When Explanations Lie", arXiv:1912.09818, for what modified backpropagation ignores.

    Args:
        probe: with two targets or more, as a tuple.
        image: ``(n, c, *s)``.
        method: what makes the maps.

    Raises:
        ValueError: when there are fewer than two targets.
    """
    image = plain(image)
    if len(probe.targets) < 2:
        raise ValueError("expected a probe with two targets or more, got one")
    maps = maps_of(method, settled(probe, image, method), image)
    return pairwise([checked_map(each, image) for each in torch.split(maps, 1, 1)])
