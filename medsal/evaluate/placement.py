"""Where a layer's cells sit in the image, measured from scans and their mirror images.

No labels are needed. Strides put the cells of a map beside where upsampling takes them to be; the
map of a mirrored scan, mirrored back, is as far off on the other side. Half of what lies between
the two is the way back.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medsal.explain import explain
from medsal.methods import Explainer, configured
from medsal.methods.combine import Mirrors
from medsal.ops import spatial
from medsal.outputs import class_logits, main_output, two_sided
from medsal.result import SaliencyMap
from medsal.targets import as_target
from medsal.types import Image

# Fewer scans give no spread to speak of.
_FEWEST = 3
_RESAMPLES = 200


@dataclass(frozen=True)
class Placement:
    """How far a method's maps are to be moved on one network: ``GradCAM(shift=placement.shift)``.

    Attributes:
        shift: along each axis, towards higher indices [voxels of the image].
        uncertainty: its standard error over the scans, by bootstrap [voxels].
        layer: of the maps.
        method: whose maps they are.
        scans: how many scans were counted.
        agreement: the share of scans whose mirror image the network sees as it sees the scan.
    """

    shift: tuple[float, ...]
    uncertainty: tuple[float, ...]
    layer: str | tuple[str, ...] | None
    method: Explainer
    scans: int
    agreement: float


def placement(
    model: nn.Module,
    scans: Tensor | Iterable[Tensor],
    *,
    target: Any = None,
    method: str | Explainer = "gradcam",
    layer: str | Sequence[str] | None = None,
    least: int | float = 0.8,
    seed: int = 0,
    forward_kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Placement:
    """The shift that brings a method's maps home on this network, from scans without labels.

    For each scan: the centre of mass of its map, less that of the mirrored-back map of its mirror
    image along all axes, each of what is above half of the map's largest value. Half of the median
    over the scans, turned round, is the shift. No paper defines it. A map of few cells places a
    single lesion poorly: many scans, with lesions in many places, are needed.

    Args:
        model: any module; it is left as it was.
        scans: a batch ``(n, c, *s)``, or an iterable of them, of one grid, as the network takes
            them.
        target: as in `explain`; None = the class predicted of the scan, also for its mirror image.
        method: a name in `METHODS`, or a method.
        layer: of the method; None = its own, or the default one.
        least: the share of scans, at least, whose mirror image the network sees as it sees the
            scan: it predicts the same class, or, where the output is no class, the target's score
            changes by less than half; and both maps have something in them. Others are left out.
        seed: of the bootstrap.
        forward_kwargs: further arguments of the model's forward pass.
        **options: of the method, when it is given by name.

    Raises:
        TypeError: for several targets.
        ValueError: where mirrored scans change the prediction too much to say, or fewer than 3
            scans are left.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from medsal.evaluate import placement
        >>> conv = nn.Conv1d(1, 1, 3, stride=2, padding=1, bias=False)  # a cell sits at voxel 2 i
        >>> _ = nn.init.ones_(conv.weight)
        >>> net = nn.Sequential(conv, nn.AdaptiveAvgPool1d(1), nn.Flatten())
        >>> scans = torch.eye(64)[16:48, None]  # in each, one voxel is bright
        >>> round(placement(net, scans, layer="0").shift[0], 2)
        -0.5
    """
    if isinstance(as_target(target), tuple):
        raise TypeError(f"expected one target for the scans, got {target!r}")
    chosen = configured(method, layer, options)
    apart: list[Tensor] = []
    found: SaliencyMap | None = None
    count = 0
    for scan in _single(scans):
        count += 1
        if found is not None and found.data.shape[2:] != scan.shape[2:]:
            raise ValueError(
                f"expected scans of one grid, got {tuple(scan.shape[2:])} after "
                f"{tuple(found.data.shape[2:])}"
            )
        found = explain(model, scan, target, chosen, forward_kwargs=forward_kwargs)
        other = _mirrored(model, scan, found, forward_kwargs)
        if other is not None and bool(found.data.gt(0).any() and other.gt(0).any()):
            apart.append(_middle(found.data[0, 0]) - _middle(other))
    if found is None:
        raise ValueError("expected scans, got none")
    _check(len(apart), count, least)
    shift, uncertainty = _shift(torch.stack(apart), seed)
    return Placement(shift, uncertainty, found.layer, found.method, len(apart), len(apart) / count)


def _single(scans: Tensor | Iterable[Tensor]) -> Iterator[Tensor]:
    """Scan by scan, ``(1, c, *s)``."""
    for batch in [scans] if isinstance(scans, Tensor) else scans:
        yield from (batch[i : i + 1] for i in range(len(batch)))


def _mirrored(
    model: nn.Module, scan: Image, found: SaliencyMap, forward_kwargs: Mapping[str, Any] | None
) -> Tensor | None:
    """The mirror image's map, mirrored back, ``(*s)``; None where it is seen as something else."""
    axes = spatial(scan)
    target = Mirrors(found.targets[0], (axes,), scan.ndim, 1)
    other = explain(model, scan.flip(axes), target, found.method, forward_kwargs=forward_kwargs)
    if not _seen_alike(found, other, target):
        return None
    return other.data.flip(axes)[0, 0]


def _seen_alike(found: SaliencyMap, other: SaliencyMap, target: Mirrors) -> bool:
    if _main_or_none(found.output) is not None:
        one, two = class_logits(found.output), class_logits(other.output)
        if one is not None and two is not None:
            return bool(two_sided(one).argmax(1) == two_sided(two).argmax(1))
    before, after = float(target.target(found.output)), float(target(other.output))
    return abs(after - before) < abs(before) / 2


def _main_or_none(output: Any) -> Tensor | None:
    """The tensor that an index refers to; None where there is no first one, as in a dict."""
    try:
        return main_output(output)
    except TypeError:
        return None


def _middle(saliency: Tensor) -> Tensor:
    """The centre of mass of what a map ``(*s)`` has above half of its largest value [voxels]."""
    evidence = saliency.double()
    evidence = (evidence - evidence.amax() / 2).relu()
    middles = []
    for axis in range(evidence.ndim):
        line = evidence.movedim(axis, 0).flatten(1).sum(1) if evidence.ndim > 1 else evidence
        voxels = torch.arange(len(line), dtype=line.dtype, device=line.device)
        middles.append((line * voxels).sum() / line.sum())
    return torch.stack(middles).cpu()


def _check(kept: int, count: int, least: float) -> None:
    if kept < least * count:
        raise ValueError(
            f"expected a network that sees a mirrored scan as it sees the scan, at least for "
            f"{least:.0%} of them, got {kept} of {count}: where cells sit can't be told from "
            f"mirrored scans here; use finer cells: another layer, with method='hirescam'"
        )
    if kept < _FEWEST:
        raise ValueError(f"expected at least {_FEWEST} scans that count, got {kept} of {count}")


def _shift(apart: Tensor, seed: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The shift and its standard error, from the displacements of each scan ``(n, axes)``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(apart), (_RESAMPLES, len(apart)), generator=generator)
    # Not the mean: where the two maps peak at different things, they lie far apart.
    resampled = apart[drawn].quantile(0.5, dim=1)
    shift = -apart.quantile(0.5, dim=0) / 2
    return tuple(shift.tolist()), tuple((resampled.std(0) / 2).tolist())
