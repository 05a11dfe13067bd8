"""The shift that is measured is the one by which a network's cells are off."""

import json

import pytest
import torch
from torch import nn

import medsal
from medsal import GradCAM, HiResCAM, Mirrored, Region
from medsal.evaluate import Placement, placement
from medsal.export.sidecar import sidecar

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZE = {1: 64, 2: 64, 3: 32}


class Cells(nn.Module):
    """Cells of stride 4 and width 3 that begin ``before`` voxels outside; two classes, or a map.

    Cell i lies at 4 i + 1 - before, upsampling takes it to be at 4 i + 1.5.
    """

    def __init__(self, axes, before, voxels=False):
        super().__init__()
        self.features = CONV[axes](1, 1, 3, stride=4, padding=0, bias=False)
        nn.init.ones_(self.features.weight)
        self.axes, self.before, self.voxels = axes, before, voxels

    def forward(self, image):
        # So many voxels that there are as many cells as strides.
        cells = self.features(nn.functional.pad(image, [self.before, -1 - self.before] * self.axes))
        if self.voxels:
            return nn.functional.interpolate(cells, image.shape[2:])
        total = cells.flatten(1).sum(1, keepdim=True)
        return torch.cat([torch.zeros_like(total), total], 1)


def blobs(axes, count=24, seed=0):
    """Scans with a soft blob somewhere."""
    generator = torch.Generator().manual_seed(seed)
    size = SIZE[axes]
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(size))] * axes, indexing="ij"))
    scans = []
    for _ in range(count):
        centre = 8 + (size - 16) * torch.rand(axes, generator=generator)
        apart = (grid - centre.reshape(-1, *(1 for _ in range(axes)))).square().sum(0)
        scans.append(torch.exp(-apart / (2 * 3.0**2)))
    return torch.stack(scans)[:, None]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_the_known_shift_of_cells_is_found(axes, before):
    found = placement(Cells(axes, before), blobs(axes))
    expected = (1 - before) - 1.5
    assert found.shift == pytest.approx([expected] * axes, abs=0.2)
    assert max(found.uncertainty) < 0.2
    assert (found.layer, found.scans, found.agreement) == ("features", 24, 1.0)


def test_the_shift_brings_the_map_to_the_blob():
    net, scans = Cells(2, 2), blobs(2)
    found = placement(net, iter(scans.split(3)))
    offsets = []
    for method in (GradCAM(), GradCAM(shift=found.shift)):
        data = medsal.explain(net, scans, method=method).data
        offsets.append((middle(data) - middle(scans)).mean(0).abs().amax())
    assert offsets[0] > 2
    assert offsets[1] < 0.2


def middle(x):
    """The centres of mass of ``(n, 1, a, b)``, ``(n, 2)``."""
    index = torch.arange(float(x.shape[-1]))
    total = x.sum((1, 2, 3))
    return torch.stack([(x.sum((1, 3)) @ index) / total, (x.sum((1, 2)) @ index) / total], 1)


def test_mirrored_and_shifted_maps_need_no_further_shift():
    net, scans = Cells(2, 2), blobs(2)
    shift = placement(net, scans).shift
    for method in (Mirrored("gradcam"), GradCAM(shift=shift)):
        assert placement(net, scans, method=method).shift == pytest.approx((0, 0), abs=0.15)


def test_a_segmentation_and_a_callable_target():
    net, scans = Cells(2, 2, voxels=True), blobs(2)
    mask = torch.ones(scans.shape[2:], dtype=torch.bool)
    for target in (Region(0, mask), lambda output: output.flatten(1).sum(1)):
        found = placement(net, scans, target=target, layer="features", method="hirescam")
        assert found.shift == pytest.approx((-2.5, -2.5), abs=0.2)
        assert isinstance(found.method, HiResCAM)


class Sided(nn.Module):
    """Which side is brighter: the mirror image is the other class."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 1, 1)

    def forward(self, image):
        cells = self.features(image).flatten(2)
        half = cells.shape[2] // 2
        return torch.stack([cells[:, 0, :half].sum(1), cells[:, 0, half:].sum(1)], 1)


def test_a_network_that_sees_the_mirror_image_as_something_else_is_refused():
    with pytest.raises(ValueError, match=r"sees a mirrored scan as it sees the scan.*got 0 of 24"):
        placement(Sided(), blobs(2))
    target = lambda output: output[:, 0]  # noqa: E731
    with pytest.raises(ValueError, match="expected at least 3 scans that count"):
        placement(Cells(2, 1), blobs(2, 2), target=target, least=0.0)


def test_what_can_not_be_measured_is_refused():
    scans = blobs(2)
    with pytest.raises(ValueError, match="expected scans, got none"):
        placement(Cells(2, 1), [])
    with pytest.raises(ValueError, match="scans of one grid"):
        placement(Cells(2, 1), [scans, scans[..., :32]])
    with pytest.raises(ValueError, match="got 0 of 24"):
        placement(Cells(2, 1), torch.zeros_like(scans))
    with pytest.raises(TypeError, match="one target"):
        placement(Cells(2, 1), scans, target=[0, 1])


def test_the_sidecar_shows_the_shift():
    net, scans = Cells(3, 1), blobs(3, 3)
    found = placement(net, scans)
    assert isinstance(found, Placement)
    result = medsal.explain(net, scans[:1], method=GradCAM(shift=found.shift))
    method = json.loads(json.dumps(sidecar(result)))["Method"]
    assert method["Parameters"]["shift"] == pytest.approx(found.shift)
