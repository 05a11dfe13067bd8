"""Windowed against what is known by hand, and against MONAI's own stitching."""

import weakref
from dataclasses import dataclass

import pytest
import torch
from monai.apps.pathology.inferers import SlidingWindowHoVerNetInferer
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer, sliding_window_inference
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import medsal
from medsal.monai import Windowed


@dataclass(frozen=True)
class Constant(medsal.Method):
    """A method that finds the same everywhere."""

    value: float = 0.7

    def __call__(self, probe, image):
        return torch.full((len(image), len(probe.targets), *image.shape[2:]), self.value)


class Narrow(nn.Module):
    """A segmentation with a receptive field of 3 voxels along each axis."""

    def __init__(self, axes: int = 3, channels: int = 3) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.first = conv(1, 4, 3, padding=1)
        self.last = conv(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean((2, 3, 4)))


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("overlap", [0, 0.25, (0.5, 0.1, 0.7)])
@pytest.mark.parametrize("size", [(17, 12, 9), (8, 8, 8), (5, 20, 7)])
def test_a_constant_stays_constant(mode: str, overlap, size) -> None:
    method = Windowed(Constant(), 8, 3, overlap, mode)
    result = medsal.explain(Classifier(), torch.rand(2, 1, *size), [0, 2], method)
    assert result.data.shape == (2, 2, *size)
    torch.testing.assert_close(result.data, torch.full_like(result.data, 0.7))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 4])
def test_inside_windows_as_in_the_whole_image(axes: int, batch: int) -> None:
    """The gradient of a small receptive field is the whole image's, away from windows' edges."""
    net, image = Narrow(axes), torch.rand(1, 1, *(16,) * axes)
    mask = torch.ones(1, *image.shape[2:], dtype=torch.bool)
    target = medsal.Region(1, mask)
    whole = medsal.explain(net, image, target, "gradient", channels="sum")
    method = Windowed(medsal.Gradient(channels="sum"), 8, batch, 0)
    parts = medsal.explain(net, image, target, method)
    # A gradient looks 2 voxels far: through a hidden voxel beside it, into that one's other side.
    inside = torch.tensor([0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15])
    for axis in range(2, axes + 2):
        whole_data = (whole.data if axis == 2 else whole_data).index_select(axis, inside)
        parts_data = (parts.data if axis == 2 else parts_data).index_select(axis, inside)
    torch.testing.assert_close(parts_data, whole_data)
    assert whole_data.abs().min() > 0


def test_activations_inside_windows() -> None:
    """HiResCAM of a sum of voxels is local too: a second method, with a layer."""
    net, image = Narrow(), torch.rand(1, 1, 12, 12, 12)
    target = medsal.Region(2, torch.ones(12, 12, 12, dtype=torch.bool))
    whole = medsal.explain(net, image, target, "hirescam", layer="first")
    parts = medsal.explain(net, image, target, Windowed(medsal.HiResCAM(layer="first"), 8, 1, 0.5))
    assert parts.layer == "first"
    assert parts.cells == (8, 8, 8)
    # Windows begin at 0 and 4: voxels 1 to 2 and 9 to 10 lie in one window and off its edge.
    for at in ((1, 2, 1), (9, 10, 9), (1, 9, 10)):
        torch.testing.assert_close(parts.data[0, 0][at], whole.data[0, 0][at])


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_the_prediction_is_that_of_monai(mode: str) -> None:
    net, image = Narrow().eval(), torch.rand(2, 1, 14, 9, 6)
    inferer = SlidingWindowInferer((8, 8, 8), 3, 0.4, mode)
    method = Windowed.like(inferer, "gradcam")
    assert (method.roi_size, method.mode, method.overlap) == ((8, 8, 8), mode, 0.4)
    with torch.no_grad():
        theirs = inferer(image, net)
    result = medsal.explain(net, image, medsal.Region(1, theirs[:, 1] > -9), method)
    torch.testing.assert_close(result.output, theirs, rtol=0, atol=0)


def test_a_map_is_stitched_by_monai() -> None:
    net, image = Classifier().eval(), torch.rand(1, 1, 14, 9, 11)
    result = medsal.explain(net, image, 1, Windowed("gradcam", 8, 2, 0.5, "gaussian"))
    by_hand = sliding_window_inference(
        image, 8, 1, lambda x: medsal.explain(net, x, 1, "gradcam").data, 0.5, "gaussian"
    )
    torch.testing.assert_close(result.data, by_hand)


def test_a_class_is_settled_on_the_mean_of_the_windows() -> None:
    net, image = Classifier().eval(), torch.rand(2, 1, 16, 8, 8)
    image[1] *= -1
    with torch.no_grad():
        logits = (net(image[:, :, :8]) + net(image[:, :, 8:])) / 2
    result = medsal.explain(net, image, None, Windowed("gradcam", 8, 3, 0))
    torch.testing.assert_close(result.output, logits)
    index = logits.argmax(1).tolist()
    expected = index[0] if index[0] == index[1] else tuple(index)
    said = result.target.index  # type: ignore[union-attr]
    assert said in (expected, tuple(index))
    one = medsal.explain(net, image[1:], index[1], Windowed("gradcam", 8, 1, 0))
    torch.testing.assert_close(result.data[1:], one.data)


def test_overlapping_windows_count_by_their_share() -> None:
    """Three windows of 8 over 16 voxels, by half: the blend's mean is known by hand."""
    net, image = Classifier().eval(), torch.rand(1, 1, 16, 8, 8)
    with torch.no_grad():
        a, b, c = (net(image[:, :, i : i + 8]) for i in (0, 4, 8))
    result = medsal.explain(net, image, 0, Windowed("gradient", 8, 2, 0.5))
    # The first window alone covers 4 planes and half of the next 4: 6 of 16. So does the last.
    torch.testing.assert_close(result.output, a * 6 / 16 + b * 4 / 16 + c * 6 / 16)


def lit(size: tuple[int, ...], *corner: int) -> tuple[nn.Module, Tensor]:
    """A segmentation whose channel 1 wins in one bright block of 4 voxels."""
    net = Narrow(len(size), 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.first.weight[0, 0][(1,) * len(size)] = 1.0
        net.last.weight[1, 0] = 1.0
        net.last.bias[0] = 0.5
    image = torch.zeros(1, 1, *size)
    image[(0, 0, *(slice(i, i + 4) for i in corner))] = 2.0
    return net, image


@pytest.mark.parametrize("method", ["gradcam", "gradient", "occlusion", "scorecam", "gradcam++"])
def test_windows_without_the_channel_are_zero(method: str) -> None:
    net, image = lit((16, 16), 2, 10)
    result = medsal.explain(net, image, None, Windowed(method, 8, 2, 0))
    assert "Region(channel=1" in repr(result.target)
    assert result.data[0, 0, :8, 8:].abs().max() > 0
    assert result.data[0, 0, 8:].abs().max() == 0
    assert result.data[0, 0, :, :8].abs().max() == 0
    with pytest.raises(ValueError, match="wins at no voxel"):
        medsal.explain(net, image * 0, 1, Windowed(method, 8, 2, 0))


def test_a_mask_of_the_volume_is_cut() -> None:
    net, image = lit((16, 16), 2, 10)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[1, 1] = mask[12, 3] = True
    result = medsal.explain(net, image, medsal.Region(0, mask), Windowed("gradient", 8, 1, 0))
    whole = medsal.explain(net, image, medsal.Region(0, mask), "gradient")
    torch.testing.assert_close(result.data, whole.data)
    both = medsal.Difference(medsal.Region(1, mask), medsal.Region(1, ~mask))
    result = medsal.explain(net, image, [both, 1], Windowed("gradient", 8, 3, 0))
    whole = medsal.explain(net, image, [both, 1], "gradient")
    torch.testing.assert_close(result.data, whole.data)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("method", ["gradcam", "gradient", "occlusion"])
def test_slices_one_by_one(axis: int, method: str) -> None:
    """A network of 2 axes over a volume: each slice as if it were alone, by parts of one mask."""
    net, size = Narrow(2).eval(), [12, 9, 7]
    image, mask = torch.rand(1, 1, *size), torch.rand(*size) > 0.3
    inferer = SliceInferer(axis, (-1, -1), 3)
    windowed = Windowed.like(inferer, method)
    assert (windowed.slices, windowed.roi_size) == (axis, (-1, -1))
    result = medsal.explain(net, image, [medsal.Region(1, mask), 2], windowed)
    with torch.no_grad():
        torch.testing.assert_close(result.output, inferer(image, net), rtol=0, atol=0)
    for i in range(size[axis]):
        target = medsal.Region(1, mask.select(axis, i))
        alone = medsal.explain(net, image.select(2 + axis, i), target, method)
        torch.testing.assert_close(result.data[:, :1].select(2 + axis, i), alone.data)


def test_slices_of_a_classifier() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    image = torch.rand(2, 1, 8, 9, 5)
    result = medsal.explain(net, image, None, Windowed("gradcam", (8, 9), slices=2))
    with torch.no_grad():
        mean = torch.stack([net(image[..., i]) for i in range(5)]).mean(0)
    torch.testing.assert_close(result.output, mean)
    alone = medsal.explain(net, image[..., 3], result.target, "gradcam")
    torch.testing.assert_close(result.data[..., 3], alone.data)
    with pytest.raises(ValueError, match="roi_size of 2 axes"):
        medsal.explain(net, image, 1, Windowed("gradcam", (8, 9, 5), slices=2))


@pytest.mark.parametrize(
    ("method", "cells", "widths"),
    [
        (Windowed("gradcam", 8), (4, 4, 4), (2.0, 4.0, 6.0)),
        (Windowed("gradcam", 8, slices=1), (4, 1, 4), (2.0, 2.0, 6.0)),
    ],
)
def test_how_wide_the_cells_of_a_window_are(method: Windowed, cells, widths) -> None:
    axes = 3 if method.slices is None else 2
    layers = [nn.Conv3d(1, 2, 2, 2), nn.AdaptiveAvgPool3d(1)]
    if axes == 2:
        layers = [nn.Conv2d(1, 2, 2, 2), nn.AdaptiveAvgPool2d(1)]
    net = nn.Sequential(*layers, nn.Flatten())
    affine = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0]))
    image = MetaTensor(torch.rand(1, 1, 16, 12, 20), affine=affine)
    result = medsal.explain(net, image, 1, method)
    assert result.cells == cells
    assert result.cell_mm == widths


class Live(TorchDispatchMode):
    """How many bytes of tensors are alive at once, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self.meet(leaf.untyped_storage())
        return output

    def meet(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@pytest.mark.parametrize("method", ["gradcam", "gradient"])
def test_memory_is_that_of_a_window_and_the_map(method: str) -> None:
    """A longer volume costs some volumes more: itself, its map and their blend, and no features."""
    net = nn.Sequential(Narrow(channels=16), nn.ReLU(), nn.Conv3d(16, 2, 3, padding=1))

    def peak(length: int, asked: str | Windowed) -> float:
        image = torch.rand(1, 1, 16, 16, length)
        target = medsal.Region(1, torch.ones(16, 16, length, dtype=torch.bool))
        with Live() as live:
            medsal.explain(net, image, target, asked)
        return live.peak / image[..., :1].nbytes

    peak(16, method)
    windows, whole = (
        (peak(128, asked) - peak(64, asked)) / 64 for asked in (Windowed(method, 16), method)
    )
    assert windows < 7
    assert whole > 5 * windows


def test_a_small_image_is_filled_up() -> None:
    net, image = lit((5, 20), 0, 9)
    result = medsal.explain(net, image, 1, Windowed("gradient", (8, 8), 1, 0.5))
    whole = medsal.explain(net, image, 1, "gradient")
    assert result.data.shape == (1, 1, 5, 20)
    torch.testing.assert_close(result.data, whole.data)


def test_a_coarser_output() -> None:
    net, image = lit((16, 16), 2, 10)
    coarse = nn.Sequential(net, nn.AvgPool2d(2))
    result = medsal.explain(coarse, image, 1, Windowed("gradient", 8, 1, 0))
    whole = medsal.explain(coarse, image, 1, "gradient")
    torch.testing.assert_close(result.data, whole.data)


@pytest.mark.parametrize("method", sorted(set(medsal.METHODS) - {"cam"}))
def test_every_method(method: str) -> None:
    net, image = Classifier(), torch.rand(2, 1, 10, 8, 8)
    few = {
        "rise": {"masks": 8},
        "occlusion": {"window": 4, "stride": 4},
        "expected_gradients": {"references": torch.zeros(1, 1, 8, 8, 8), "samples": 2},
        "smoothgrad": {"samples": 2},
        "integrated_gradients": {"steps": 4},
    }
    known = medsal.METHODS[method].__dataclass_fields__  # type: ignore[attr-defined]
    options = {name: value for name, value in few.get(method, {}).items() if name in known}
    inner = medsal.get_method(method, **options)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    result = medsal.explain(net, image, [0, 1], Windowed(inner, 8, 2))
    assert result.data.shape == (2, 2, 10, 8, 8)
    assert result.data.isfinite().all()
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_half_precision_shows_no_seams() -> None:
    net, image = Narrow().bfloat16(), torch.rand(1, 1, 16, 8, 8).bfloat16()
    result = medsal.explain(
        net, image, medsal.Region(1, torch.ones(16, 8, 8)), Windowed(Constant(), 8, 1, 0.3)
    )
    torch.testing.assert_close(result.data, torch.full_like(result.data, 0.7))


def test_its_name_and_options() -> None:
    method = Windowed("gradcam", [8, 8, 8])
    assert method.name == "windowed_gradcam"
    assert "GradCAM" in repr(method)
    assert method == Windowed(medsal.GradCAM(), (8, 8, 8))


def test_what_it_refuses() -> None:
    net, image = Narrow(2), torch.rand(1, 1, 16, 16)
    with pytest.raises(LookupError, match="gradcam"):
        Windowed("gradcamm", 8)
    with pytest.raises(ValueError, match="overlap"):
        Windowed("gradcam", 8, overlap=1)
    with pytest.raises(ValueError, match="mode"):
        Windowed("gradcam", 8, mode="linear")
    with pytest.raises(ValueError, match="sw_batch_size"):
        Windowed("gradcam", 8, 0)
    with pytest.raises(ValueError, match="roi_size of 2 axes"):
        medsal.explain(net, image, 1, Windowed("gradcam", (8, 8, 8)))
    with pytest.raises(ValueError, match=r"HoVerNetInferer.* other windows"):
        Windowed.like(SlidingWindowHoVerNetInferer(8), "gradcam")
    region = medsal.Region(1, torch.ones(16, 16))
    with pytest.raises(ValueError, match="put Windowed outside"):
        medsal.explain(net, image, region, medsal.Mirrored(Windowed("gradient", 8)))
    volume = torch.ones(1, 16, 16)
    with pytest.raises(ValueError, match="sees the output of windows"):
        medsal.explain(
            net, image, lambda out: (out[:, 1] * volume).sum((1, 2)), Windowed("gradient", 8)
        )
