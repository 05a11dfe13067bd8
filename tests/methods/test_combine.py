"""Methods made of methods."""

from dataclasses import replace

import pytest
import torch
from method_nets import CONV, Deep, Head, Pooled, Skip, images, probe, seeded

import medsal
from medsal import METHODS, GradCAM, Gradient, GuidedBackprop, Mirrored, Probe, Smooth
from medsal.methods.noise import noisy
from medsal.ops import spatial
from medsal.regions import Region
from medsal.targets import ClassScore

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def halves(axes):
    """A net whose Grad-CAM is not where the image is: stride 2, even size."""
    return seeded(Deep(axes)), images(axes)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 7])
def test_smooth_is_the_mean_over_noisy_images(axes, batch):
    net, image = halves(axes)
    method = METHODS["gradcam"](layer="second")
    copies = list(noisy(image, 5, 0.1, 3))
    expected = torch.stack([method(probe(net, 0, 2), each) for each in copies]).mean(0)
    smooth = Smooth(method, samples=5, sigma=0.1, seed=3, batch=batch)
    assert torch.allclose(smooth(probe(net, 0, 2), image), expected, **CLOSE)


def test_smooth_without_noise_is_the_method():
    net, image = halves(2)
    found = Smooth("guided_backprop", samples=3, sigma=0)(probe(net), image)
    assert torch.allclose(found, GuidedBackprop()(probe(net), image), **CLOSE)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("every", [False, True])
def test_mirrored_is_the_mean_over_mirror_images(axes, every):
    net, image = halves(axes)
    method = METHODS["layercam"](layer="second")
    spatial = list(range(2, image.ndim))
    choices = [[], spatial]
    if every:
        choices = [[a for i, a in enumerate(spatial) if k >> i & 1] for k in range(2**axes)]
    maps = [method(probe(net), image.flip(each)).flip(each) for each in choices]
    found = Mirrored(method, passes=len(choices))(probe(net), image)
    assert torch.allclose(found, torch.stack(maps).mean(0), **CLOSE)


def test_mirrored_of_a_mirrored_image_is_its_mirrored_map():
    net, image = halves(3)
    method = Mirrored(GradCAM("second"), passes=8)
    found = method(probe(net), image.flip(3)).flip(3)
    assert torch.allclose(found, method(probe(net), image), **CLOSE)


class Strided(torch.nn.Module):
    """Cells of stride 4 that sit 1.5 voxels before where upsampling puts them; the score sums."""

    def __init__(self, axes):
        super().__init__()
        self.features = CONV[axes](1, 1, 3, stride=4, padding=1, bias=False)
        torch.nn.init.ones_(self.features.weight)

    def forward(self, image):
        return self.features(image).flatten(1).sum(1, keepdim=True)


def middle(found):
    """The map's centre of mass along each axis [voxels]."""
    axes = range(found.ndim)
    sums = [found.movedim(axis, 0).reshape(len(found), -1).sum(1) for axis in axes]
    return torch.stack([(each * torch.arange(len(each))).sum() / each.sum() for each in sums])


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("every", [False, True])
def test_the_bias_of_strides_cancels_exactly(axes, every):
    net = Strided(axes).double()
    blob = torch.zeros(1, 1, *[32] * axes, dtype=torch.float64)
    blob[(0, 0, *[slice(15, 17)] * axes)] = 1  # its centre is the grid's: its own mirror image
    once = middle(GradCAM()(probe(net, 1), blob)[0, 0])
    assert torch.allclose(once, torch.full_like(once, 17.5))
    method = Mirrored(GradCAM(), passes=2**axes if every else 2)
    found = method(probe(net, 1), blob)
    assert torch.allclose(middle(found[0, 0]), torch.full_like(once, 15.5), **CLOSE)
    assert torch.allclose(found.flip(*spatial(blob)), found, **CLOSE)


@pytest.mark.parametrize("passes", [2, 4])
def test_mirrored_passes_may_be_shared(passes):
    net, image = seeded(Skip()), images(channels=1)
    mask = torch.zeros(image.shape[2:], dtype=torch.bool)
    mask[1:4, 2] = True
    method = Mirrored(GradCAM("first", signed=True), passes)
    for target in (Region(1, mask), (Region(0, mask), Region(1, mask))):
        alone = method(Probe(net, target), image)
        shared = replace(method, batch=2 * len(image))(Probe(net, target), image)
        assert torch.allclose(shared, alone, **CLOSE)


def test_the_inner_method_predicts():
    """Over windows, say: what is explained is what it would explain by itself."""

    class Second(Gradient):
        def predict(self, probe, image):
            return torch.tensor([[0.0, 1.0, 0.0]]).double().expand(len(image), -1)

    net, image = halves(2)
    for method in (Mirrored(Second()), Smooth(Second(), samples=2)):
        assert medsal.explain(net, image, method=method).target == ClassScore((1, 1))


def test_mirrored_keeps_a_region_where_it_is():
    net, image = seeded(Skip()), images(channels=1)
    mask = torch.zeros(image.shape[2:], dtype=torch.bool)
    mask[1:4, 2] = True  # far from its own mirror image
    method = GradCAM("first", signed=True)
    maps = []
    for axes in [(), (2, 3)]:
        region = Region(1, mask.flip([axis - 2 for axis in axes]))
        maps.append(method(Probe(net, region), image.flip(axes)).flip(axes))
    found = Mirrored(method)(Probe(net, Region(1, mask)), image)
    assert torch.allclose(found, torch.stack(maps).mean(0), **CLOSE)


def test_the_predicted_class_is_the_clean_images():
    """A net that would change its mind on the mirror image or with noise."""
    weights = torch.tensor([[[3.0, 0, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 0]]])
    image = torch.tensor([[[1.0, 0, 2], [0, 0, 0]]])
    for method in (Mirrored(Gradient(channels="sum")), Smooth("gradient", sigma=5)):
        result = medsal.explain(Head(weights), image, method=method)
        assert result.target == ClassScore(0)
        assert float(result.data[0, 0, 2].abs()) == 0 or isinstance(method, Mirrored)
        assert float(result.data[0, 0, 0].abs()) > 0


def test_methods_compose():
    net, image = halves(2)
    method = Mirrored(Smooth(METHODS["layercam"](layer=("first", "second")), samples=2), passes=4)
    result = medsal.explain(net, image, [0, 2], method)
    assert result.data.shape == (2, 2, *image.shape[2:])
    assert result.layer == ("first", "second")
    assert eval(repr(method), {**vars(medsal)}) == method


def test_a_plain_callable_is_a_method():
    net, image = halves(2)

    def signed(asked, x):
        return asked.gradient(x).sum(1, keepdim=True)

    found = Smooth(signed, samples=2)(probe(net, 0, 2), image)
    expected = Smooth(Gradient(channels="sum"), samples=2)(probe(net, 0, 2), image)
    assert torch.allclose(found, expected, **CLOSE)


def test_guided_gradcam_by_hand():
    net, image = halves(3)
    expected = GradCAM("second")(probe(net), image) * GuidedBackprop()(probe(net), image)
    assert torch.allclose(METHODS["guided_gradcam"](layer="second")(probe(net), image), expected)


def test_options_are_refused():
    net, image = seeded(Pooled(3)), images(3, channels=1)
    with pytest.raises(ValueError, match="passes of 2 or 8 for an image with 3 axes"):
        Mirrored("gradcam", passes=4)(probe(net), image)
    with pytest.raises(ValueError, match="passes"):
        Mirrored("gradcam", passes=3)
    with pytest.raises(LookupError, match="near it: 'gradcam'"):
        Smooth("gradcan")
    with pytest.raises(TypeError, match="call it to make one"):
        Mirrored(GradCAM)
    with pytest.raises(ValueError, match="samples"):
        Smooth("gradcam", samples=0)
