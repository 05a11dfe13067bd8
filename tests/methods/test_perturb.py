"""Occlusion and RISE: by hand, against captum and definitions written out."""

import warnings

import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from method_nets import Deep, Head, images, probe, seeded
from torch import nn

import medsal
from medsal import METHODS, RISE, Occlusion, Probe
from medsal.ops import resize
from medsal.targets import ClassScore

WEIGHTS = torch.tensor([[1.0, -1, 2, 0, 3]]).double()
IMAGE = torch.tensor([[[1.0, 2, 3, 4, 5]]]).double()


def test_occlusion_by_hand():
    # What each voxel gives is (1, -2, 6, 0, 15). Windows of 3 start at 0 and 2: they lose 5 and 21.
    net = Head(WEIGHTS[None], bias=4)
    found = Occlusion(window=3, stride=2)(probe(net), IMAGE)
    assert found[0, 0].tolist() == [5, 5, 13, 21, 21]


def test_occlusion_cuts_off_the_last_window():
    # Windows of 2 start at 0, 2 and 4: the last one has a single voxel.
    found = Occlusion(window=2, stride=2)(probe(Head(WEIGHTS[None])), IMAGE)
    assert found[0, 0].tolist() == [-1, -1, 6, 6, 15]


@pytest.mark.parametrize(
    ("fill", "lost"),
    [
        (1, [0, -1, 4, 0, 12]),
        ("mean", [-2, 1, 0, 0, 6]),
        (torch.tensor([5.0, 4, 3, 2, 1]), [-4, 2, 0, 0, 12]),
    ],
)
def test_occlusion_fills(fill, lost):
    found = Occlusion(window=1, fill=fill)(probe(Head(WEIGHTS[None])), IMAGE)
    assert found[0, 0].tolist() == lost


@pytest.mark.parametrize(
    ("axes", "window", "stride"),
    [(1, 3, 1), (1, 5, 4), (2, 3, 2), (2, (4, 3), (3, 1)), (3, 3, 2), (3, (2, 7, 4), (2, 5, 3))],
)
@pytest.mark.parametrize("fill", [0, 0.5])
def test_captum_occlusion(axes, window, stride, fill):
    net, image = seeded(Deep(axes)), images(axes)
    shape = (window,) * axes if isinstance(window, int) else window
    step = (stride,) * axes if isinstance(stride, int) else stride
    channels = image.shape[1]
    with torch.no_grad():
        expected = CaptumOcclusion(net).attribute(
            image, (channels, *shape), strides=(channels, *step), target=2, baselines=fill
        )
    found = Occlusion(window=window, stride=stride, fill=fill, batch=6)(probe(net, 2), image)
    assert torch.allclose(found, expected[:, :1].double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_occlusion_covers_every_voxel_by_default(axes):
    net, image = seeded(Deep(axes)), images(axes)
    assert Occlusion()(probe(net), image).isfinite().all()
    large = Occlusion(window=99, stride=50)(probe(net), image)
    gone = probe(net)(image) - probe(net)(0 * image)
    assert torch.allclose(large.flatten(1), gone[:, None].expand(-1, image[0, 0].numel()))


def test_what_is_predicted_is_read_off_the_clean_pass():
    net, image = seeded(Deep(2)), images()
    passes = []
    net.register_forward_hook(lambda *_: passes.append(1))
    found = medsal.explain(net, image, None, "occlusion", window=99)
    assert len(passes) == 2
    classes = found.target.index
    assert list(classes) == net(image).argmax(1).tolist()
    expected = Occlusion(window=99)(probe(net, classes), image)
    torch.testing.assert_close(found.data, expected.float())


@pytest.mark.parametrize(
    ("axes", "window", "stride", "coarse"), [(1, 2, None, 3), (2, 3, 2, 2), (3, 3, (3, 2, 1), 2)]
)
def test_a_search_that_tolerates_nothing_asks_for_every_window(axes, window, stride, coarse):
    net, image = seeded(Deep(axes)), images(axes)
    asked = Probe(net, (ClassScore(0), ClassScore(2)))
    usual = Occlusion(window=window, stride=stride)(asked, image)
    found = Occlusion(window=window, stride=stride, coarse=coarse, tolerance=0)(asked, image)
    torch.testing.assert_close(found, usual, rtol=1e-12, atol=1e-12)


def test_a_search_by_hand():
    # What each voxel gives is (1, -2, 6, 0, 15). Blocks of 2, 2 and 1 windows lose -1, 6 and 15.
    net = Head(WEIGHTS[None], bias=4)
    asked = probe(net)
    found = Occlusion(window=1, coarse=2, tolerance=0.1)(asked, IMAGE)
    assert found[0, 0].tolist() == [-0.5, -0.5, 6, 0, 15]
    (note,) = asked.record.notes
    assert "of 5 windows the 3 were hidden one by one that lie in 2 of 3 blocks" in note
    found = Occlusion(window=1, coarse=2, tolerance=0.5)(probe(net), IMAGE)
    assert found[0, 0].tolist() == [-0.5, -0.5, 3, 3, 15]
    # A block whose windows cancel out is passed over whatever they lose.
    level = Occlusion(window=1, coarse=2, tolerance=0.01)
    cancelling = torch.tensor([[[6.0, 3, 3, 4, 5]]]).double()
    assert level(probe(net), cancelling)[0, 0].tolist() == [6, -3, 6, 0, 15]
    cancelling[0, 0, 1] = 6
    assert level(probe(net), cancelling)[0, 0].tolist() == [0, 0, 6, 0, 15]


class Corner(nn.Module):
    """Sees the first and the last 4 cells along each axis, a score for each."""

    def forward(self, image):
        self.asked = getattr(self, "asked", 0) + len(image)
        n = image.ndim - 2
        parts = (image[(..., *[slice(4)] * n)], image[(..., *[slice(-4, None)] * n)])
        return torch.stack([part.flatten(1).square().mean(1) for part in parts], 1)


def test_a_search_asks_where_it_matters():
    image = torch.rand(1, 1, 16, 16, 16).double()
    net = Corner()
    usual = Occlusion(window=2)(probe(net, 0), image)
    every, net.asked = net.asked, 0
    method = Occlusion(window=2, coarse=2)
    found = method(probe(net, 0), image)
    torch.testing.assert_close(found, usual, rtol=1e-12, atol=1e-15)
    # Two clean passes, 64 blocks, the 8 windows of one of them.
    assert (every, net.asked) == (513, 2 + 64 + 8)
    assert torch.equal(method(probe(net, 0), image), found)


def test_a_search_goes_where_any_sample_or_target_asks():
    both = torch.rand(2, 1, 16, 16).double()
    both[0, ..., 8:] = 0  # this sample has nothing at the far end
    net = Corner()
    asked = Probe(net, (ClassScore(0), ClassScore(1)))
    method = Occlusion(window=2, coarse=2)
    torch.testing.assert_close(
        method(asked, both), Occlusion(window=2)(asked, both), rtol=1e-12, atol=1e-15
    )
    (note,) = asked.record.notes
    assert "of 64 windows the 8 were hidden one by one that lie in 2 of 16 blocks" in note
    alone = medsal.explain(net, both[:1], 0, method)
    assert any("the 4 were" in each and "1 of 16 blocks" in each for each in alone.notes)
    # Where nothing matters anywhere, no window is looked at.
    nothing = medsal.explain(net, both[:1], 1, method)
    assert any("the 0 were" in each and "0 of 16 blocks" in each for each in nothing.notes)
    assert not nothing.data.any()


def test_a_search_of_a_network_that_looks_at_one_place():
    net = seeded(Deep(2, channels=1))
    image = 0.05 * torch.rand(1, 1, 32, 32).double()
    image[..., 5:12, 17:23] += 3
    asked = probe(net, 1)
    usual = Occlusion(window=2)(asked, image)
    found = Occlusion(window=2, coarse=3)(asked, image)
    assert float(torch.corrcoef(torch.stack([usual.flatten(), found.flatten()]))[0, 1]) > 0.99
    (note,) = asked.record.notes
    count = int(note.split("the ")[1].split()[0])
    assert count < 100  # of 256


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_rise_is_equation_6(axes):
    net, image = seeded(Deep(axes)), images(axes)
    method = RISE(masks=11, cells=3, p=0.3, seed=4, batch=5)
    masks = [mask.double() for mask in method.drawn(image)]
    assert len(masks) == 11
    with torch.no_grad():
        scores = [net(image * mask)[:, 1] for mask in masks]
    parts = [torch.einsum("n,...->n...", s, m) for s, m in zip(scores, masks, strict=True)]
    expected = torch.stack(parts).sum(0) / (11 * 0.3)
    assert torch.allclose(method(probe(net), image)[:, 0], expected, rtol=1e-9, atol=1e-12)
    mean = torch.stack(scores).mean(0)
    less = torch.stack([torch.einsum("n,...->n...", mean, m) for m in masks]).sum(0) / (11 * 0.3)
    centred = RISE(masks=11, cells=3, p=0.3, seed=4, centred=True)(probe(net), image)[:, 0]
    assert torch.allclose(centred, expected - less, rtol=1e-9, atol=1e-9)


def test_rise_by_hand_of_one_mask():
    method = RISE(masks=1, cells=5)
    (mask,) = method.drawn(IMAGE)
    score = float((mask * IMAGE[0, 0] * WEIGHTS[0]).sum())
    found = method(probe(Head(WEIGHTS[None])), IMAGE)[0, 0]
    assert found.tolist() == pytest.approx((mask * score / 0.5).tolist())


@pytest.mark.parametrize("size", [(40,), (20, 31), (9, 12, 14)])
def test_rise_masks(size):
    masks = torch.stack(list(RISE(masks=400, cells=4, p=0.3).drawn(torch.zeros(1, 1, *size))))
    assert masks.shape == (400, *size)
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1 + 1e-6
    # The same at every voxel, border included.
    assert float((masks.mean(0) - 0.3).abs().max()) < 0.1


def test_rise_masks_are_the_crop_of_a_larger_grid():
    (mask,) = RISE(masks=1, cells=(2, 3), seed=1).drawn(torch.zeros(1, 1, 7, 9))
    generator = torch.Generator().manual_seed(1)
    grid = (torch.rand(1, 1, 2, 3, generator=generator) < 0.5).float()
    a, b = (int(torch.randint(n, (), generator=generator)) for n in (4, 3))
    expected = resize(grid, (3 * 4, 4 * 3))[0, 0, a : a + 7, b : b + 9]
    assert torch.equal(mask, expected)


def test_rise_finds_the_voxels_that_count():
    class Lamp(nn.Module):
        def forward(self, image):
            return image[:, :, 3:5, 3:5, 9:].mean((1, 2, 3, 4))[:, None]

    image = torch.ones(1, 1, 12, 12, 12)
    found = RISE(masks=300, cells=4, centred=True)(probe(Lamp()), image)[0, 0]
    peak = torch.unravel_index(found.argmax(), found.shape)
    assert all(abs(int(i) - j) <= 2 for i, j in zip(peak, (3.5, 3.5, 10), strict=True))


@pytest.mark.parametrize("name", ["occlusion", "rise"])
def test_torchscript_and_models_without_a_gradient(name):
    net, image = seeded(Deep(2)), images()
    options = {"masks": 5} if name == "rise" else {"window": 5}
    expected = METHODS[name](**options)(probe(net), image)

    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x).detach()

    assert torch.equal(METHODS[name](**options)(probe(Blind()), image), expected)
    with warnings.catch_warnings(action="ignore"):
        traced = torch.jit.trace(net, image, check_trace=False)
    found = METHODS[name](**options)(Probe(traced, ClassScore(1)), image)
    assert torch.allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda: Occlusion(window=0), "window as a whole number"),
        (lambda: Occlusion(window=(3, 0)), "window as a whole number"),
        (lambda: Occlusion(fill="grey"), "fill as a number"),
        (lambda: Occlusion(window=2, stride=3), "stride of at most the window"),
        (lambda: Occlusion(window=(2, 2, 2)), "one window or 1"),
        (lambda: Occlusion(coarse=0), "coarse as a whole number"),
        (lambda: Occlusion(coarse=True), "coarse as a whole number"),
        (lambda: Occlusion(coarse=2, tolerance=1.5), "tolerance as a share"),
        (lambda: Occlusion(coarse=2, tolerance=-0.1), "tolerance as a share"),
        (lambda: RISE(p=1.0), "p as a probability"),
        (lambda: RISE(masks=0), "masks as a whole number"),
        (lambda: RISE(cells=(2, 2)), "one cells or 1"),
    ],
)
def test_options_are_refused(method, message):
    with pytest.raises(ValueError, match=message):
        method()(probe(Head(WEIGHTS[None])), IMAGE)
