"""What the metrics take: one finite map per sample, on the image's grid."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from medsal.methods import Explainer, Method, maps_of
from medsal.probe import Probe, plain
from medsal.result import map_targets
from medsal.targets import settle
from medsal.types import Image, Map


def checked_map(saliency: Tensor, image: Tensor | None = None) -> Map:
    """A map ``(n, 1, *s)`` as an ordinary tensor.

    Args:
        saliency: the map.
        image: ``(n, c, *s)``, on whose grid it must lie; None = none.

    Raises:
        TypeError: when it is no tensor of floats.
        ValueError: when it has another shape, or NaN or infinite values.
    """
    if not isinstance(saliency, Tensor) or not saliency.is_floating_point():
        got = saliency.dtype if isinstance(saliency, Tensor) else type(saliency).__name__
        raise TypeError(f"expected a map as a tensor of floats, got {got}")
    if not 3 <= saliency.ndim <= 5 or saliency.shape[1] != 1 or 0 in saliency.shape:
        raise ValueError(
            f"expected one map per sample (n, 1, 1 to 3 spatial axes), got the shape "
            f"{tuple(saliency.shape)}; of several targets take one: result.data[:, [j]]"
        )
    if image is not None:
        expected = (len(image), 1, *image.shape[2:])
        if tuple(saliency.shape) != expected:
            raise ValueError(
                f"expected a map of the shape {expected}, as the image {tuple(image.shape)} has "
                f"it, got {tuple(saliency.shape)}"
            )
    unusable = int((~saliency.isfinite()).sum())
    if unusable:
        raise ValueError(f"expected a finite map, got {unusable} voxels that are NaN or infinite")
    return plain(saliency)


def same_shape(one: Tensor, other: Tensor) -> tuple[Map, Map]:
    """Two maps that are compared voxel by voxel.

    Raises:
        ValueError: when their shapes differ, or as `checked_map` does.
    """
    one, other = checked_map(one), checked_map(other)
    if one.shape != other.shape:
        raise ValueError(
            f"expected two maps of one shape, got {tuple(one.shape)} and {tuple(other.shape)}"
        )
    return one, other


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse what is none of a few names.

    Raises:
        ValueError: when it is not.
    """
    if value not in choices:
        raise ValueError(f"expected {name} as one of {list(choices)}, got {value!r}")


def check_share(name: str, value: float, above: float = 0.0) -> None:
    """Refuse what is no share of a whole.

    Raises:
        ValueError: when it is not from ``above`` to 1.
    """
    if not above <= value <= 1:
        raise ValueError(f"expected {name} from {above:g} to 1, got {value!r}")


def shaped(values: Tensor, like: Tensor) -> Tensor:
    """One number per sample, ``(n,)``, shaped to go with ``(n, k, *s)``."""
    return values.reshape(-1, *(1 for _ in like.shape[1:]))


def one_target(probe: Probe) -> Probe:
    """The probe, where it has one target.

    Raises:
        ValueError: when it has several.
    """
    if len(probe.targets) != 1:
        raise ValueError(f"expected a probe with one target, got {len(probe.targets)}")
    return probe


def settled(probe: Probe, image: Image, method: Explainer | None = None) -> Probe:
    """The probe with its targets fixed at the clean image: changed images are asked the same."""
    output = method.predict(probe, image) if isinstance(method, Method) else probe.output(image)
    target = map_targets(probe.target, lambda each: settle(each, output))
    return replace(probe, target=target)


def map_of(method: Explainer, probe: Probe, image: Image) -> Map:
    """A method's map, checked."""
    return checked_map(maps_of(method, probe, image), image)
