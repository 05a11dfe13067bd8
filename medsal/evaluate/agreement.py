"""Do several methods, or several networks trained alike, show the same?"""

from collections.abc import Sequence

from torch import nn

from medsal.evaluate.arguments import map_of, one_target, settled
from medsal.evaluate.similarity import Similarity, pairwise
from medsal.methods import Explainer, get_method
from medsal.probe import Probe, plain, quietly
from medsal.types import Image


@quietly()
def agreement(probe: Probe, image: Image, methods: Sequence[str | Explainer]) -> Similarity:
    """How alike the maps of several methods are: matrices ``(n, m, m)``.

    The same method with several seeds tells how far chance moves it:
    ``[SmoothGrad(seed=i) for i in range(5)]``. That methods agree does not make them right.

    Source: Krishna et al., 2022, "The Disagreement Problem in Explainable Machine Learning",
    arXiv:2202.01602, section 3 (rank correlation).

    Args:
        probe: with one target, which is settled at the image.
        image: ``(n, c, *s)``.
        methods: two or more, or their names.

    Raises:
        ValueError: when there are fewer than two methods.
    """
    if len(methods) < 2:
        raise ValueError(f"expected two methods or more, got {len(methods)}")
    image = plain(image)
    chosen = [get_method(each) if isinstance(each, str) else each for each in methods]
    asked = settled(one_target(probe), image)
    return pairwise([map_of(each, asked, image) for each in chosen])


@quietly()
def repeatability(
    models: Sequence[nn.Module], probe: Probe, image: Image, method: Explainer
) -> Similarity:
    """How alike the maps of several networks are: matrices ``(n, m, m)``, the probe's own first.

    Of one architecture trained with other seeds: repeatability; of other architectures:
    reproducibility. All are asked for the target that the probe's own network settles.

    Source: Arun et al., 2021, "Assessing the Trustworthiness of Saliency Maps for Localizing
    Abnormalities in Medical Imaging", doi:10.1148/ryai.2021200267 (with SSIM).

    Args:
        models: the other networks, one or more.
        probe: with one target.
        image: ``(n, c, *s)``.
        method: what makes the maps.

    Raises:
        ValueError: when there is no other network.
    """
    if not models:
        raise ValueError("expected at least one other network, got none")
    image = plain(image)
    asked = settled(one_target(probe), image, method)
    others = [Probe(each, asked.target, asked.forward_kwargs) for each in models]
    return pairwise([map_of(method, each, image) for each in (asked, *others)])
