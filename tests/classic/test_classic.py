"""Three methods behind one call: the engine's numbers, from 0 to 1."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import medsal

CONV, POOL = {2: nn.Conv2d, 3: nn.Conv3d}, {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
METHODS = {
    "GradCAM": "gradcam",
    "GuidedBackprop": "guided_backprop",
    "GuidedGradCAM": "guided_gradcam",
}


def net_of(axes, channels=1):
    conv = CONV[axes]
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(conv(channels, 6, 3, padding=1), nn.ReLU(inplace=True)),
            layer2=nn.Sequential(conv(6, 5, 3, stride=2, padding=1), nn.ReLU()),
            avgpool=POOL[axes](1),
            flat=nn.Flatten(),
            fc=nn.Linear(5, 3),
        )
    )


def named(axes):
    return {
        "mode": f"{axes}D",
        "section_names": [["conv1", "layer2"], ["fc"]],
        "adaptive_layer": "avgpool",
    }


def batch_of(axes, samples=2, channels=1):
    return torch.rand(samples, channels, *(9, 8, 7)[:axes])


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_numbers_are_the_engine_s(method, axes):
    net, batch = net_of(axes), batch_of(axes)
    before = batch.clone()
    preds, maps = medsal.saliency(model=net, method=method, **named(axes))(
        batch, target_class=[2, 0]
    )
    raw = medsal.explain(net, batch, medsal.ClassScore((2, 0)), METHODS[method])
    torch.testing.assert_close(preds, raw.output)
    assert maps.shape == (2, 1, *batch.shape[2:])
    for found, expected in zip(maps, raw.data, strict=True):
        scaled = (expected - expected.min()) / (expected.max() - expected.min())
        torch.testing.assert_close(found, scaled)
        assert (found.min(), found.max()) == (0, 1)
    bare = medsal.saliency(net, method=method, mode=f"{axes}D")
    torch.testing.assert_close(bare(batch, [2, 0])[1], maps)
    assert torch.equal(batch, before)
    assert not batch.requires_grad
    assert net.training
    assert all(each.grad is None for each in net.parameters())


def test_classes():
    net, batch = net_of(2), batch_of(2)
    find = medsal.saliency(net, mode="2D")
    predicted = net.eval()(batch).argmax(1).tolist()
    for asked in (None, [], predicted, torch.tensor(predicted)):
        torch.testing.assert_close(find(batch, asked)[1], find(batch, predicted)[1])
    for asked in (1, [1]):
        torch.testing.assert_close(find(batch, asked)[1], find(batch, [1, 1])[1])
    with pytest.raises(ValueError, match="one for each of 2 samples, got 3"):
        find(batch, [0, 1, 2])
    with pytest.raises(LookupError, match="3"):
        find(batch, 3)


@pytest.mark.parametrize("layer", ["layer2.0", ["layer2", "0"]])
def test_the_layer_is_the_named_one(layer):
    net, batch = net_of(2), batch_of(2, 1)
    _, maps = medsal.saliency(net, target_layer=layer, mode="2D")(batch, 1)
    raw = medsal.explain(net, batch, 1, layer="layer2.0").data
    torch.testing.assert_close(maps, (raw - raw.min()) / (raw.max() - raw.min()))


def test_an_empty_map_is_zero():
    net, batch = net_of(2), batch_of(2)
    with torch.no_grad():
        net.fc.weight.copy_(-net.fc.weight.abs())
    _, maps = medsal.saliency(net, mode="2D")(batch, [0, 1])
    assert torch.equal(maps, torch.zeros_like(maps))


@pytest.mark.parametrize("nested", [False, True])
def test_without_the_last_layer(nested):
    plain, batch = net_of(2), batch_of(2)
    head = nn.Sequential(plain.fc, nn.Softmax(1)) if nested else plain.fc
    parts = [plain.conv1, plain.layer2, plain.avgpool, plain.flat, head]
    net = nn.Sequential(*parts, *([] if nested else [nn.Softmax(1)]))
    find = medsal.saliency(net, section_names=[["0", "1"], ["4"] if nested else ["5"]], mode="2D")
    logits, expected = medsal.saliency(plain, mode="2D")(batch, [0, 2])
    preds, maps = find(batch, [0, 2], ignore_lastlayer=True)
    torch.testing.assert_close(preds, logits)
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(find(batch, [0, 2])[0], logits.softmax(1))
    torch.testing.assert_close(net(batch), logits.softmax(1))
    with pytest.raises(ValueError, match=r"expected a softmax or sigmoid .* 'fc' \(Linear\)"):
        medsal.saliency(plain, mode="2D")(batch, ignore_lastlayer=True)


def test_names_are_checked():
    net = net_of(2)
    for wrong in (
        {"section_names": [["conv"], ["fc"]]},
        {"section_names": [["conv1"], ["f"]]},
        {"adaptive_layer": "avgpol"},
        {"target_layer": ["layer2", "7"]},
        {"target_layer": "layer3"},
    ):
        with pytest.raises(LookupError, match="near it: '"):
            medsal.saliency(net, mode="2D", **wrong)
    with pytest.raises(LookupError, match="expected one of 'GradCAM'"):
        medsal.saliency(net, method="gradcam")
    with pytest.raises(ValueError, match="two sections"):
        medsal.saliency(net, section_names=["conv1"])
    with pytest.raises(TypeError):
        medsal.saliency(net, section_names=[[net.conv1], ["fc"]])
    with pytest.raises(ValueError, match="mode of"):
        medsal.saliency(net, mode="4D")
    with pytest.raises(ValueError, match=r"depth, height, width\) in mode '3D'"):
        medsal.saliency(net)(batch_of(2))


def test_sections_may_be_single_names():
    net, batch = net_of(2), batch_of(2)
    find = medsal.saliency(net, section_names=["layer2", "fc"], mode="2D")
    torch.testing.assert_close(find(batch, 1)[1], medsal.saliency(net, mode="2D")(batch, 1)[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_with_a_map_each(channels, tmp_path):
    batch, maps = batch_of(2, 3, channels), torch.rand(3, 1, 9, 8)
    path = tmp_path / "figure.png"
    figure = medsal.saliency_plot(
        batch, maps, mode="2D", alpha=0.8, nrow=2, titles=["maps"], save_fig=path, cmap="magma"
    )
    assert figure._repr_png_().startswith(b"\x89PNG")
    panel, bar = figure.axes
    below, above = panel.get_images()
    assert path.stat().st_size > 5000
    assert panel.get_title() == "maps"
    assert above.get_alpha() == 0.8
    assert above.get_clim() == (0, 1)
    assert bar.get_ylim() == (0, 1)
    drawn = np.asarray(above.get_array())
    # Two in a row, one below: each as it is, rows first.
    np.testing.assert_allclose(drawn[:9, :8], maps[0, 0])
    np.testing.assert_allclose(drawn[:9, 10:], maps[1, 0])
    np.testing.assert_allclose(drawn[11:, :8], maps[2, 0])
    assert below.get_array().shape[:2] == (20, 18)


def test_volumes_in_a_slice():
    batch, maps = batch_of(3), [torch.rand(2, 1, 9, 8, 7), torch.zeros(2, 1, 9, 8, 7)]
    figure = medsal.saliency_plot(batch, maps, sl=2, show_cb=False, show_axis=False, scale=0.5)
    alone, first, second = figure.axes
    assert len(alone.get_images()) == 1
    assert not first.axison
    np.testing.assert_allclose(
        np.asarray(first.get_images()[1].get_array())[:8, :7], maps[0][0, 0, 2]
    )
    assert not np.asarray(second.get_images()[1].get_array())[:8, :7].any()
    middle = medsal.saliency_plot(batch, maps[0]).axes[1].get_images()[1].get_array()
    np.testing.assert_allclose(np.asarray(middle)[:8, :7], maps[0][0, 0, 4])


def test_a_slider_through_the_slices(monkeypatch):
    import matplotlib as mpl

    mpl.use("agg")
    batch, maps = batch_of(3), torch.rand(2, 1, 9, 8, 7)
    figure = medsal.saliency_plot(batch, maps, interactive=True)
    slider = figure._medsal_slider
    assert (slider.valmin, slider.valmax, slider.val) == (0, 8, 4)
    slider.set_val(7)
    shown = np.asarray(figure.axes[1].get_images()[1].get_array())
    np.testing.assert_allclose(shown[:8, :7], maps[0, 0, 7])
    from matplotlib import pyplot

    pyplot.close(figure)


def test_what_can_not_be_drawn():
    batch, maps = batch_of(3), torch.rand(2, 1, 9, 8, 7)
    for wrong, match in (
        ({"mode": "2D"}, r"\(samples, channels, height, width\)"),
        ({"mode": "2d"}, "mode of"),
        ({"sl": 9}, "slice of 0 to 8, got 9"),
        ({"alpha": 2}, "alpha from 0 to 1"),
        ({"titles": ["one"]}, "expected 2 titles"),
        ({"maps": maps[:1]}, r"expected maps of the shape \(2, 1, 9, 8, 7\)"),
    ):
        with pytest.raises(ValueError, match=match):
            medsal.saliency_plot(batch, **{"maps": maps, **wrong})
