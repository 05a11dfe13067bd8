"""The verb: from a model and an image to a saliency map."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from medsal.methods import Explainer, Method, configured, maps_of
from medsal.origin import Origin, affine_of, origins_of
from medsal.probe import Layer, Probe, Record, plain, quietly
from medsal.result import SaliencyMap, map_targets
from medsal.targets import Predicted, as_target, choice_of, settle

__all__ = ["Origin", "SaliencyMap", "explain", "layers"]

Numbers = list[list[float]]


def explain(
    model: nn.Module,
    image: Tensor,
    target: Any = None,
    method: str | Explainer = "gradcam",
    layer: str | Sequence[str] | None = None,
    *,
    input: str | None = None,
    forward_kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> SaliencyMap:
    """Where in the image did the model look?

    The model, the image, the random state and the caller's grad mode are as before afterwards,
    whatever happens inside.

    Args:
        model: any module; a network of MONAI, say.
        image: ``(n, c, *s)`` tensor or MetaTensor, 1 to 3 spatial axes. It comes back untouched.
        target: what to explain: None = the predicted class of each sample; a class; a target such
            as `ClassScore`, `Difference`, `Region`, `Positive`; any callable ``output -> (n,)``; or
            a list of these.
        method: a name in `METHODS`, or a method.
        layer: dotted name of the layer, for methods that use one, or several, fused; None = the
            last layer that still has all spatial axes.
        input: which of the forward pass's parameters takes the image; None = the first one.
        forward_kwargs: its other arguments, by name, as they are for the whole batch.
        **options: of the method, when it is given by name.

    Returns:
        The raw map, one per sample and target, with what was asked and found.

    Raises:
        TypeError: for an image or target of the wrong kind, or an option that the method does not
            have.
        ValueError: for an image of the wrong shape or with NaN, or a target that gives no score
            per sample.
        LookupError: for a method, layer or class that does not exist; near names are given.

    Examples:
        >>> from torch import nn, rand
        >>> from medsal import explain
        >>> head = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)]
        >>> net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), *head)
        >>> explain(net, rand(1, 1, 16, 16, 16)).layer
        '1'
    """
    _check_image(image)
    chosen = configured(method, layer, options)
    asked = as_target(target)
    probe = Probe(model, asked, dict(forward_kwargs or {}), input)
    with quietly():
        probe.look_through()
        card = probe.card()
        if not getattr(chosen, "one_pass", False):
            # Methods that look at changed images explain what the clean one shows.
            probe = _settled(chosen, probe, image)
        data = maps_of(chosen, probe, plain(image))
        lowest, highest = _extremes(data, probe, image)
        target = map_targets(asked, probe.record.settled_of)
        return SaliencyMap(
            data=data.detach().float(),
            image=plain(image),
            output=probe.record.output,
            target=target,
            method=chosen,
            layer=_one_or_all(probe.record.layers),
            affine=affine_of(image),
            cells=probe.record.cells,
            seen=None,
            origins=origins_of(image),
            notes=(*_choices(asked, target), *probe.record.notes, *_empty(lowest, highest)),
            model=card,
            cell_mm=_cell_widths(probe.record, image),
            input=input,
            forward_kwargs=probe.forward_kwargs,
        )


def _cell_widths(record: Record, image: Tensor) -> tuple[float, ...] | None:
    """How wide a layer's cells are, where all samples have one grid [mm]."""
    affine = affine_of(image)
    if record.cells is None or record.extent is None or affine is None or affine.ndim == 3:
        return None
    widths = affine[:3, :3].norm(dim=0).tolist()
    return tuple(mm * n / k for mm, n, k in zip(widths, record.extent, record.cells, strict=False))


def layers(
    model: nn.Module,
    image: Tensor,
    *,
    input: str | None = None,
    forward_kwargs: Mapping[str, Any] | None = None,
) -> list[Layer]:
    """The layers that a forward pass of this image meets, with the shapes that they put out.

    The one that ``layer=None`` means is marked as default.
    """
    _check_image(image)
    return Probe(model, Predicted(), dict(forward_kwargs or {}), input).layers(image)


def _check_image(image: Tensor) -> None:
    if not isinstance(image, Tensor):
        raise TypeError(
            f"expected the image as a torch tensor or MetaTensor, got {type(image).__name__}"
        )
    if not image.is_floating_point():
        raise TypeError(
            f"expected an image of floats, as networks take it, got {image.dtype}; "
            f"use image.float()"
        )
    if not 3 <= image.ndim <= 5 or 0 in image.shape:
        raise ValueError(
            f"expected an image (samples, channels, 1 to 3 spatial axes), got the shape "
            f"{tuple(image.shape)}; a single scan needs image[None]"
        )
    if not _is_finite(image.detach().as_subclass(Tensor)):
        count = int((~image.detach().as_subclass(Tensor).isfinite()).sum())
        raise ValueError(f"expected a finite image, got {count} voxels that are NaN or infinite")


def _is_finite(x: Tensor) -> bool:
    """Whether all numbers are; without a copy of them, which `Tensor.isfinite` makes."""
    return all(map(math.isfinite, torch.stack(x.aminmax()).tolist()))


def _settled(chosen: Explainer, probe: Probe, image: Tensor) -> Probe:
    # A method that sees the image in parts predicts in parts as well.
    if isinstance(chosen, Method):
        output = chosen.predict(probe, plain(image))
    else:
        output = probe.output(image)
    probe.record.output = output
    return dataclasses.replace(
        probe, target=map_targets(probe.target, lambda each: settle(each, output))
    )


def _extremes(data: Tensor, probe: Probe, image: Tensor) -> tuple[Numbers, Numbers]:
    """The least and the largest value of each map, read from the device together.

    Raises:
        ValueError: when it is no map ``(n, t, *s)`` of finite numbers.
    """
    expected = (image.shape[0], len(probe.targets), *image.shape[2:])
    if not isinstance(data, Tensor) or tuple(data.shape) != expected:
        got = tuple(data.shape) if isinstance(data, Tensor) else type(data).__name__
        raise ValueError(f"a method gives a map of the shape {expected}, got {got}")
    # Of rows, aminmax takes many times as long.
    flat = data.detach().flatten(2)
    lowest, highest = torch.stack([flat.amin(2), flat.amax(2)]).tolist()
    if not all(map(math.isfinite, chain(*lowest, *highest))):
        raise ValueError(
            "the map has NaN or infinite values; check the model's output for this image"
        )
    return lowest, highest


def _choices(asked: Any, settled: Any) -> tuple[str, ...]:
    """What to tell of channels that nobody named."""
    pairs = zip(asked, settled, strict=True) if isinstance(asked, tuple) else [(asked, settled)]
    return tuple(filter(None, (choice_of(each, found) for each, found in pairs)))


def _empty(lowest: Numbers, highest: Numbers) -> tuple[str, ...]:
    """What to tell of maps that are 0 everywhere."""
    rows = enumerate(zip(lowest, highest, strict=True))
    said = ", ".join(
        f"sample {i} target {j}"
        for i, row in rows
        for j, found in enumerate(zip(*row, strict=True))
        if found == (0, 0)
    )
    note = f"empty map ({said}): no evidence for the target was found, which is not 'unimportant'"
    return (note,) if said else ()


def _one_or_all(names: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return names[0] if len(names) == 1 else names or None
