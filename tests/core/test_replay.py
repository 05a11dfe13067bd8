"""Later passes run only what a change reaches: the same scores as passes in full, for less."""

import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.networks import nets
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import medsal
from medsal import AblationCAM, Occlusion, Probe
from medsal.methods.many import repeated
from medsal.probe import Box
from medsal.probe.replays import recording
from medsal.probe.replays.boxes import gathered
from medsal.targets import ClassScore, Region

Conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Odd(nn.Module):
    """Steps of every kind: strides, dilations, groups, paddings, poolings, branches, in place."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        conv, norm = Conv[axes], getattr(nn, f"BatchNorm{axes}d")
        self.first = nn.Sequential(conv(1, 6, 4, 2, 2), norm(6), nn.LeakyReLU(0.1, inplace=True))
        self.dilated = conv(6, 6, 3, padding=2, dilation=2, groups=3)
        self.again = nn.Sequential(conv(6, 6, 3, padding=1, bias=False), nn.PReLU(6))
        self.max = getattr(nn, f"MaxPool{axes}d")(3, 2, 1)
        self.average = getattr(nn, f"AvgPool{axes}d")(3, 2, 1)
        self.last = nn.Sequential(conv(12, 4, 2), nn.ReLU(inplace=True))
        self.head = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        side = self.again(self.again(x))
        x = x * torch.sigmoid(self.dilated(x)) + side
        x += side.square() * 0.5
        x = torch.cat([self.max(x), self.average(F.pad(x, [1, 1] * (x.ndim - 2))[_crop(x)])], 1)
        return self.head(self.last(x).flatten(2).mean(2))


def _crop(x: Tensor) -> Any:
    return (..., *(slice(1, -1) for _ in x.shape[2:]))


class Reflected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1, padding_mode="reflect")

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image).relu().flatten(2).mean(2)


class Branching(nn.Module):
    """Its way depends on what it sees, of any sample of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 3, 5, padding=2)

    def forward(self, image: Tensor) -> Tensor:
        chosen = self.b if bool(image.abs().amax() > 3) else self.a
        return chosen(image).relu().flatten(2).mean(2)


class Writing(nn.Module):
    """Writes to a view of what was used before, into its input, and into a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.then = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image)
        image.mul_(0.5)
        x[:, :2].relu_()
        copies = torch.zeros_like(x)
        copies[:, :2] = x[:, 2:]
        return (self.then(x + copies) + image).flatten(2).mean(2)


class Kept(nn.Module):
    """Uses a tensor before and after it is written to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.then = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image)
        before = self.then(x)
        x.relu_()
        return (before * self.then(x)).flatten(2).mean(2)


class Normed(nn.Module):
    """Weights that are made in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 3, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image).relu().flatten(2).mean(2) * torch.tensor(2.0)


class ByNumpy(nn.Module):
    """Leaves torch on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image)
        return x.flatten(2).mean(2) * float(x.numpy().max())


def small(kind: Any, *args: Any, **options: Any) -> Callable[[], nn.Module]:
    return lambda: kind(*args, **options)


def resnet(axes: int, **options: Any) -> nn.Module:
    return nets.ResNet("basic", [1, 1, 1, 1], [4, 6, 8, 8], axes, 1, num_classes=3, **options)


ONE = {"spatial_dims": 2, "in_channels": 1}
# The network, the image's size, the window, and at most which share of a full pass's operations.
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, float]] = {
    "odd 1D": (small(Odd, 1), (61,), 5, 0.36),
    "odd 2D": (small(Odd, 2), (41, 38), 5, 0.17),
    "odd 3D": (small(Odd, 3), (23, 20, 21), 4, 0.26),
    "ResNet 2D": (small(resnet, 2), (48, 40), 4, 0.2),
    "ResNet 3D": (small(resnet, 3), (32, 32, 24), 4, 0.09),
    "ResNet 3D, stride": (small(resnet, 3, conv1_t_stride=2), (32, 32, 32), 4, 0.1),
    # Of windows in the middle its last blocks run on the whole, of those in a corner on boxes.
    "bottlenecks": (
        small(nets.resnet50, spatial_dims=2, n_input_channels=1, num_classes=3, widen_factor=0.1),
        (96, 96), 24, 0.65,
    ),
    "DenseNet 3D": (small(nets.DenseNet, 3, 1, 3, 8, 4, (2, 2)), (32,) * 3, 4, 0.13),
    "DenseNet 1D": (small(nets.DenseNet, 1, 1, 3, 8, 4, (2, 2)), (64,), 8, 0.95),
    "SEResNet": (small(nets.SEResNet50, num_classes=3, **ONE), (64, 64), 8, 0.95),
    "EfficientNet": (
        small(nets.EfficientNetBN, "efficientnet-b0", False, num_classes=3, **ONE),
        (64, 64), 8, 1.0,
    ),
    "UNet": (small(nets.UNet, 2, 1, 3, (4, 8), (2,)), (32, 32), 4, 0.96),
    "UNet, batch norm": (small(nets.UNet, 2, 1, 3, (4, 8), (2,), norm="batch"), (32, 32), 4, 0.56),
    "BasicUNet": (small(nets.BasicUNet, 2, 1, 3, (4, 4, 8, 8, 16, 4)), (32, 32), 4, 0.98),
    "AHNet": (
        small(nets.AHNet, out_channels=3, psp_block_num=0, layers=(1,) * 4, **ONE),
        (64, 64), 8, 1.0,
    ),
    "ViT": (
        small(nets.ViT, 1, 16, 8, 24, 24, 2, 2, classification=True, num_classes=3, spatial_dims=2),
        (16, 16), 4, 1.0,
    ),
    "reflections": (Reflected, (16, 16), 4, 1.0),
    "branching": (Branching, (16, 16), 4, 1.0),
    "writing": (Writing, (16, 16), 4, 1.0),
    "kept": (Kept, (24, 24), 4, 0.12),
    "normed": (Normed, (24, 24), 4, 0.08),
    "by numpy": (ByNumpy, (16, 16), 4, 1.0),
}  # fmt: skip


def built(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    net = NETS[name][0]().to(dtype).eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_().mul_(0.1)
            module.running_var.uniform_(0.05, 0.2)  # nothing fades away
    return net


def probe_of(net: nn.Module, *targets: Any) -> Probe:
    def score(k: int) -> Callable[[Any], Tensor]:
        def first(output: Any) -> Tensor:
            while isinstance(output, tuple | list):
                output = output[0]
            return output.flatten(2).mean(2)[:, k] if output.ndim > 2 else output[:, k]

        return first

    return Probe(net, targets or (score(0), score(1)))


def boxes(size: tuple[int, ...], window: int, samples: int) -> Box:
    """In a corner, at the other end, and in between."""
    starts = [[0, 3, (n - window) // 2, n - window] for n in size]
    chosen = [*product(*([s[0], s[3]] for s in starts)), *zip(*starts, strict=True)]
    return Box(tuple(each for each in chosen for _ in range(samples)), (window,) * len(size))


@contextmanager
def flops() -> Iterator[list[int]]:
    found: list[int] = []
    with FlopCounterMode(display=False) as counter:
        yield found
    found.append(counter.get_total_flops())


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_patched_images_have_the_scores_of_full_passes(name: str, samples: int) -> None:
    _, size, window, share = NETS[name]
    probe = probe_of(built(name))
    image = torch.randn(samples, 1, *size, dtype=torch.float64)
    image[0] += 1.5  # one sample alone takes the other branch
    box = boxes(size, window, samples)
    patch = torch.randn(len(box.starts), 1, *box.size, dtype=torch.float64)
    asked = repeated(probe, len(patch) // samples, samples)
    before = image.clone()
    with probe.keeping(image, boxes=box) as clean:
        found = [asked.scores_patched(clean, patch, box)]
        with flops() as needed:
            found.append(asked.scores_patched(clean, patch, box))
    with flops() as full:
        expected = asked.scores(gathered(image, patch, box))
    whole = probe.scores(image)
    for each in found:
        torch.testing.assert_close(each, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(probe.scores_kept(clean), whole, rtol=0, atol=0)
    assert torch.equal(image, before)
    assert float((expected - whole.repeat(len(patch) // samples, 1)).abs().max()) > 1e-9
    assert needed[0] <= share * full[0]


def in_turn(probe: Probe, image: Tensor, window: int) -> Tensor:
    """Occlusion as it is defined, a full pass for each window."""
    method = Occlusion(window=window)
    size = image.shape[2:]
    whole = probe.scores(image)
    total, covered = torch.zeros(*whole.shape, *size).double(), torch.zeros(size).double()
    for each in product(*method._windows(size)):
        hidden = image.clone()
        hidden[(..., *each)] = 0
        lost = whole - probe.scores(hidden)
        total[(..., *each)] += lost.reshape(*lost.shape, *(1 for _ in size))
        covered[each] += 1
    return total / covered


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", ["odd 1D", "odd 3D", "ResNet 2D", "UNet", "writing"])
def test_occlusion_is_what_full_passes_say(name: str, samples: int) -> None:
    size = tuple(min(n, 24) for n in NETS[name][1])
    probe = probe_of(built(name))
    image = torch.randn(samples, 1, *size, dtype=torch.float64)
    image[..., : size[-1] // 2] = 0  # hidden already
    for batch in (1, 5):
        found = Occlusion(window=7, batch=batch)(probe, image)
        torch.testing.assert_close(found, in_turn(probe, image, 7), rtol=1e-9, atol=1e-11)


def test_targets_that_differ_from_sample_to_sample() -> None:
    net, image = built("ResNet 2D"), torch.randn(2, 1, 24, 24).double()
    both = Occlusion(window=8)(Probe(net, ClassScore((0, 2))), image)
    for i, k in enumerate((0, 2)):
        alone = Occlusion(window=8)(Probe(net, ClassScore(k)), image[i : i + 1])
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-9, atol=1e-11)
    net = built("UNet, batch norm")
    target = Region(1).settled(net(image).detach())
    probe = Probe(net, target)
    found = Occlusion(window=8)(probe, image)
    torch.testing.assert_close(found, in_turn(probe, image, 8), rtol=1e-9, atol=1e-11)


def test_windows_where_nothing_changes_need_no_pass() -> None:
    net, image = built("ResNet 2D"), torch.zeros(1, 1, 32, 32).double()
    image[..., :8, :8] = 1
    with flops() as few:
        Occlusion(window=8)(probe_of(net), image)
    with flops() as one:
        probe_of(net).scores(image)
    assert few[0] < 2 * one[0]


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", ["odd 2D", "ResNet 2D", "UNet", "DenseNet 1D", "writing", "kept"])
def test_a_changed_layer_is_what_full_passes_say(name: str, samples: int) -> None:
    net, (_, size, _, _) = built(name), NETS[name]
    image = torch.randn(samples, 1, *size, dtype=torch.float64)
    probe = probe_of(net)
    layers = [each for each in medsal.layers(net, image) if len(each.shape or ()) == image.ndim]
    for layer in (layers[len(layers) // 2].name, layers[-1].name):
        for change in (torch.zeros_like, torch.neg, lambda x: x):
            with probe.keeping(image, layer) as clean:
                found = probe.scores_with(image, layer, change, samples, clean)
                again = probe.scores_with(image, layer, change, samples, clean)
            expected = probe.scores_with(image, layer, change, samples)
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(again, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "layer", "share"),
    [
        ("ResNet 2D", "layer3", 0.05),
        ("UNet", "model.1.submodule", 0.6),
        ("ViT", "blocks.1.norm1", 0.5),
    ],
)
def test_ablation_runs_the_head_alone(name: str, layer: str, share: float) -> None:
    """After a few passes in full, each channel costs the share of them that follows the layer."""
    net, (_, size, _, _) = built(name), NETS[name]
    image = torch.randn(2, 1, *size, dtype=torch.float64)
    probe = probe_of(net)
    with flops() as once:
        probe.scores(image)
    with flops() as needed:
        found = AblationCAM(layer)(probe, image)
    (tap,) = probe.taps(image, [layer], gradients=False)
    channels = tap.activations.shape[1]
    assert needed[0] < (3 + share * (channels + 2)) * once[0]
    losses = [
        probe.scores(image) - probe.scores_with(image, layer, _without(k), 2)
        for k in range(channels)
    ]
    weights = torch.stack(losses, 2) / probe.scores(image)[..., None]
    coarse = torch.einsum("ntk,nk...->nt...", weights, tap.activations).relu()
    expected = medsal.ops.resize(coarse, image.shape[2:])
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-11)


def _without(channel: int) -> Callable[[Tensor], Tensor]:
    def change(features: Tensor) -> Tensor:
        copy = features.clone()
        copy[:, channel] = 0
        return copy

    return change


def test_a_clean_pass_that_would_keep_too_much_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).double()
    x = torch.rand(1, 1, 24, 24, dtype=torch.float64)
    usual = medsal.explain(net, x, 0, "occlusion", window=6).data
    monkeypatch.setattr(recording, "_MOST", 4 * x.nbytes)
    probe = Probe(net, ClassScore(0))
    with probe.keeping(x, boxes=boxes((24, 24), 6, 1)) as clean:
        assert "bytes" in clean.recording.unfit
        assert not any(each.kept is not None for each in clean.recording._known.values())
    torch.testing.assert_close(
        medsal.explain(net, x, 0, "occlusion", window=6).data, usual, rtol=1e-10, atol=1e-12
    )


def test_nothing_is_kept_after_the_call() -> None:
    net, image = built("ResNet 2D"), torch.randn(1, 1, 48, 40).double()
    with probe_of(net).keeping(image, boxes=boxes((48, 40), 4, 1)) as clean:
        entries = [e for c in clean.recording.calls for e in c.leaves if hasattr(e, "kept")]
        kept = [weakref.ref(each.kept) for each in entries if each.kept is not None]
        assert kept
    del clean, entries
    gc.collect()
    assert not any(each() is not None for each in kept)


@pytest.mark.parametrize("method", [Occlusion(window=8), AblationCAM("layer3")])
def test_in_several_threads_at_once(method: Any) -> None:
    net = built("ResNet 2D")
    pictures = [torch.randn(1, 1, 24, 24).double() for _ in range(4)]
    expected = [method(probe_of(net), each) for each in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: method(probe_of(net), each), pictures))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_under_autocast_and_with_meta_tensors() -> None:
    net, image = built("ResNet 2D", torch.float32), torch.randn(1, 1, 24, 24)
    expected = medsal.explain(net, image, 1, "occlusion", window=8).data
    with torch.inference_mode():
        found = medsal.explain(net, MetaTensor(image), 1, "occlusion", window=8).data
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        half = medsal.explain(net, image, 1, "occlusion", window=8).data
        probe = Probe(net, ClassScore(1))
        corner = Box(((0, 0),), (8, 8))
        with probe.keeping(image, boxes=corner) as clean:
            probe.scores_patched(clean, torch.zeros(1, 1, 8, 8), corner)
            assert not clean.recording.unfit
    both = torch.corrcoef(torch.stack([half.flatten(), expected.flatten()]))
    assert float(both[0, 1]) > 0.9


def test_random_steps_and_training_statistics_run_in_full() -> None:
    class Random(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return F.dropout(image, 0.5, training=True).flatten(1)[:, :3]

    class Training(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, image: Tensor) -> Tensor:
            norm = self.norm
            return F.batch_norm(image, norm.running_mean, norm.running_var, training=True).flatten(
                1
            )[:, :3]

    for net in (Random(), Training()):
        image, corner = torch.randn(2, 1, 8, 8), Box(((0, 0),), (2, 2))
        with Probe(net, ClassScore(1)).keeping(image, boxes=corner) as clean:
            assert clean.recording.unfit
