"""What every method keeps to, whatever it computes."""

import re
from dataclasses import replace

import pytest
import torch
from method_nets import Deep, Pooled, Skip, images, probe, seeded

import medsal
from medsal import METHODS, Mirrored, Probe, Smooth
from medsal.regions import Region
from medsal.targets import ClassScore

FEW = {
    "integrated_gradients": {"steps": 3},
    "expected_gradients": {"samples": 4, "references": torch.zeros(0)},
    "smoothgrad": {"samples": 3},
    "occlusion": {"window": 4, "stride": 3},
    "rise": {"masks": 6, "cells": 3},
}
NAMES = [*METHODS, "smooth", "mirrored"]


def made(name, axes=2, channels=2):
    options = dict(FEW.get(name, {}))
    if "references" in options:
        options["references"] = images(axes, 3, channels, seed=8)
    if name == "smooth":
        return Smooth("gradcam++", samples=3)
    if name == "mirrored":
        return Mirrored(METHODS["rise"](masks=4, cells=3))
    return METHODS[name](**options)


def net_of(name, axes=2):
    """CAM needs a linear head, and one channel comes in there."""
    return (seeded(Pooled(axes)), 1) if name == "cam" else (seeded(Deep(axes)), 2)


def test_all_names_are_there():
    expected = """cam gradcam gradcam++ hirescam layercam xgradcam eigencam scorecam ablationcam
    gradient input_x_gradient guided_backprop deconvnet integrated_gradients expected_gradients
    smoothgrad guided_gradcam occlusion rise"""
    assert sorted(METHODS) == sorted(expected.split())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_shapes_types_samples_and_targets(name, axes):
    net, channels = net_of(name, axes)
    image = images(axes, 3, channels)
    method = made(name, axes, channels)
    before = torch.random.get_rng_state()
    found = method(probe(net, 0, 2), image)
    assert found.shape == (3, 2, *image.shape[2:])
    assert found.dtype == torch.float64
    assert found.isfinite().all()
    assert found.flatten(2).abs().amax(2).gt(0).any()
    assert torch.equal(before, torch.random.get_rng_state())
    # The same again; each target alone; each sample alone, whatever its place.
    assert torch.equal(method(probe(net, 0, 2), image), found)
    single = method(probe(net, 2), image)
    assert torch.allclose(single, found[:, 1:], rtol=1e-9, atol=1e-12)
    alone = method(probe(net, 0, 2), image[2:])
    assert torch.allclose(alone, found[2:], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_for_each_sample(name):
    net, channels = net_of(name)
    image, method = images(2, 3, channels), made(name, 2, channels)
    found = method(Probe(net, ClassScore((2, 0, 2))), image)
    every = method(probe(net, 0, 2), image)
    expected = torch.stack([every[0, 1], every[1, 0], every[2, 1]])[:, None]
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cam"])
def test_a_region_for_each_sample(name):
    net, image = seeded(Skip()), images(2, 3, 1)
    method = made(name, 2, 1)
    region = Region(1).settled(net(image))
    found = method(Probe(net, region), image)
    for i in range(3):
        mask = region.mask[i] if region.mask.ndim == 3 else region.mask[i, 0]
        alone = method(Probe(net, Region(1, mask)), image[i : i + 1])
        assert torch.allclose(alone, found[i : i + 1], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_batches_do_not_change_the_map(name):
    net, channels = net_of(name)
    image, method = images(2, 3, channels), made(name, 2, channels)
    if not hasattr(method, "batch"):
        pytest.skip("it has no batches")
    asked = Probe(net, (ClassScore((2, 0, 2)), ClassScore(1)))
    expected = replace(method, batch=1)(asked, image)
    for batch in (3, 7, 1000):
        found = replace(method, batch=batch)(asked, image)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_explain_under_no_grad_leaves_no_trace(name):
    net, channels = net_of(name)
    net, image = net.float(), images(2, 2, channels).float()
    method = made(name, 2, channels)
    if hasattr(method, "references"):
        method = METHODS[name](references=method.references.float(), samples=2)
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        result = medsal.explain(net, image, method=method)
    assert result.data.shape == (2, 1, *image.shape[2:])
    assert result.data.dtype == torch.float32
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(weights[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("smooth", "mirrored")])
def test_bfloat16_is_near_float32(name):
    net, channels = net_of(name)
    image = images(2, 1, channels, seed=3).float()
    method = made(name, 2, channels)
    if hasattr(method, "references"):
        method = METHODS[name](references=method.references.float(), samples=4)
    wide = method(probe(net.float()), image)
    half = method(probe(net.bfloat16()), image.bfloat16())
    assert half.dtype == torch.float32
    pair = torch.stack([wide.flatten(), half.flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.99


@pytest.mark.parametrize("name", METHODS)
def test_sources_are_cited(name):
    cls = METHODS[name]
    assert re.search(r"\d{4}, .*(arXiv:\d{4}\.\d{4,5}|doi:10\.)", cls.source)
    assert cls.__doc__
    assert len(cls.__doc__.splitlines()[0]) <= 100


def test_methods_without_a_gradient_need_none():
    """Of a score that has no gradient at all."""

    def settled(output):
        return output.detach().argmax(1).double()

    net, image = seeded(Deep()), images()
    for name in ("scorecam", "ablationcam", "eigencam", "occlusion", "rise"):
        assert made(name)(Probe(net, settled), image).isfinite().all()
