"""Grad-CAM costs one forward pass, records no graph before the layer, and keeps nothing."""

import copy
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from core_nets import Nasty, Segmenter, Tiny, image
from monai.networks.blocks import ChannelSELayer
from monai.networks.nets import BasicUNet, DenseNet, SegResNet, UNet, resnet10
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import medsal
from medsal.probe.gradients import trimming
from medsal.probe.taps import tapping
from tests.benchmarks.cost.live import live


class Counted(nn.Module):
    """Counts the passes that reach their end: one that would write into the image is stopped."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.passes = 0

    def forward(self, x: Tensor) -> Any:
        output = self.net(x)
        self.passes += 1
        return output


def voxels(channel: int) -> Any:
    return lambda output: (
        (output[:, channel] if output.ndim > 2 else output[:, [channel]]).flatten(1).sum(1)
    )


NETS: dict[str, tuple[Any, int, str]] = {
    "tiny": (lambda: Tiny(3), 8, "relu"),
    "nasty": (lambda: Nasty(3), 8, "norm"),
    "segmenter": (lambda: Segmenter(3), 8, "encoder"),
    "unet": (lambda: UNet(3, 1, 3, (4, 8), (2,), num_res_units=2), 8, "model.2.0"),
    "basic unet": (lambda: BasicUNet(2, 1, 3, (4, 4, 8, 8, 8, 4)), 32, "upcat_1"),
    "segresnet": (lambda: SegResNet(2, 8, 1, 3), 16, "act_mod"),
    "resnet": (lambda: resnet10(n_input_channels=1, num_classes=3, widen_factor=0.2), 40, "layer4"),
    "densenet": (lambda: DenseNet(3, 1, 3, 4, 4, (2, 2)), 32, "class_layers.relu"),
}


@pytest.mark.parametrize("name", NETS)
def test_one_forward_pass(name: str) -> None:
    build, size, layer = NETS[name]
    net = Counted(build().double()).train()
    d = 2 if any(isinstance(each, nn.Conv2d) for each in net.modules()) else 3
    x = torch.rand(1, 1, *(size,) * d, dtype=torch.float64)
    first = medsal.Probe(net, voxels(1)).taps(x)[0]
    assert net.passes == 1
    second = medsal.Probe(net, (voxels(1), voxels(0))).taps(x)[0]
    assert net.passes == 2
    assert first.layer == second.layer == f"net.{layer}"
    torch.testing.assert_close(first.activations, second.activations, rtol=1e-12, atol=0)
    torch.testing.assert_close(first.gradients[0], second.gradients[0], rtol=1e-9, atol=1e-15)
    medsal.explain(net, x, [voxels(0), voxels(1), None])
    assert net.passes == 3


@contextmanager
def saved_bytes() -> Iterator[list[int]]:
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def test_no_graph_before_the_layer() -> None:
    net = nn.Sequential(
        *(
            layer
            for _ in range(4)
            for layer in (nn.Conv3d(4, 4, 3, padding=1), nn.ReLU(inplace=True))
        )
    )
    net[0] = nn.Conv3d(1, 4, 3, padding=1)
    model = nn.Sequential(net, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2))
    x = torch.rand(1, 1, 16, 16, 16)
    with saved_bytes() as saved:
        medsal.explain(model, x, layer="0")
    assert sum(saved) < 1000
    medsal.explain(model, x)
    with saved_bytes() as saved:
        result = medsal.explain(model, x, [0, 1])
    assert result.layer == "0"
    assert sum(saved) < 1000


class Often(nn.Module):
    """One activation after each convolution, as in MONAI's EfficientNet; checkpointed if asked."""

    def __init__(self, checkpointed: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1 if i == 0 else 4, 4, 3) for i in range(4))
        self.act, self.head = nn.SiLU(), nn.Linear(4, 2)
        self.checkpointed = checkpointed
        self.times = 4

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs[: self.times]:
            if self.checkpointed:
                x = checkpoint(lambda x, conv=conv: self.act(conv(x)), x, use_reentrant=False)
            else:
                x = self.act(conv(x))
        return self.head(x.mean((2, 3)))


def test_of_a_shared_activation_only_the_call_that_counts_begins_a_graph() -> None:
    model, x = Often(), torch.rand(1, 1, 40, 40)
    for layer in ("act", None):
        first = medsal.explain(model, x, layer=layer)
        with saved_bytes() as saved:
            second = medsal.explain(model, x, layer=layer)
        assert sum(saved) < 1000
    assert second.layer == first.layer == "act"
    assert torch.equal(second.data, first.data)


@pytest.mark.parametrize("layers", ["act", ["convs.1", "act"], None])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_an_activation_that_is_called_a_different_number_of_times(
    layers: Any, checkpointed: bool
) -> None:
    torch.manual_seed(0)
    model, x = Often(checkpointed), torch.rand(2, 1, 20, 20)
    for times in (3, 3, 2, 2, 4, 4, 3):
        model.times = times
        fresh = copy.deepcopy(model)
        found, expected = (medsal.explain(each, x, 0, layer=layers).data for each in (model, fresh))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["gradcam", "guided_gradcam", "gradient"])
def test_nothing_is_kept(method: str) -> None:
    model, x = Nasty(2), image(2)
    kept: list[weakref.ref[Tensor]] = []

    def look(module: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append(weakref.ref(output))

    handles = [each.register_forward_hook(look) for each in model.modules()]
    result = medsal.explain(model, x, method=method)
    for handle in handles:
        handle.remove()
    gc.collect()
    alive = [each() for each in kept if each() is not None]
    assert all(each.grad_fn is None for each in alive)
    assert not [each for each in alive if each.ndim == 4]
    assert result.output.grad_fn is None


def test_the_output_has_no_graph_whatever_it_is() -> None:
    class Both(Tiny):
        def forward(self, x: Tensor) -> Any:
            y = super().forward(x)
            return {"logits": y, "more": (y + 1, [y + 2], None)}

    result = medsal.explain(Both(2), image(2), lambda output: output["logits"][:, 0])
    assert not result.output["logits"].requires_grad
    assert not result.output["more"][1][0].requires_grad


def test_the_first_use_copies_no_large_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tapping, "_COPIED", 0)

    class InPlace(nn.Module):
        """An activation in place that no module tells of, after the default layer."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.last(self.first(x).relu_()).relu_().mean((2, 3)))

    model, x = Counted(InPlace()), image(2)
    first = medsal.explain(model, x, 0, signed=True)
    # The leaf was written over: the layer is tapped in a pass of its own, once, and copied then.
    assert (first.layer, model.passes) == ("net.last", 2)
    second = medsal.explain(model, x, 0, signed=True)
    named = medsal.explain(model, x, 0, layer="net.last", signed=True)
    assert model.passes == 4
    assert torch.equal(first.data, named.data)
    assert torch.equal(second.data, named.data)
    again = Counted(InPlace())
    again.load_state_dict(model.state_dict())
    by_name = [medsal.explain(again, x, 0, layer="net.last", signed=True) for _ in range(2)]
    assert again.passes == 2 + 1
    assert all(torch.equal(each.data, named.data) for each in by_name)

    # Where nothing writes it, the leaf and what goes on are the same numbers in memory.
    places: dict[str, int] = {}

    def put_out(module: nn.Module, inputs: Any, output: Tensor) -> None:
        places["out"] = output.data_ptr()

    def taken(module: nn.Module, inputs: Any) -> None:
        places["in"] = inputs[0].data_ptr()

    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    net[0].register_forward_hook(put_out)
    net[1].register_forward_pre_hook(taken)
    medsal.explain(net, x, 0)
    assert places["in"] == places["out"]


def test_import_loads_no_figures() -> None:
    code = "import sys, medsal; print([each for each in sys.modules if 'medsal.view' in each])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert callable(medsal.saliency)
    assert callable(medsal.saliency_plot)


class Watched(nn.Module):
    """Two convolutions; it puts down how many look on at either."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 2)
        self.modes: list[int] = []
        self.hooks: list[int] = []

    def look(self) -> None:
        self.modes.append(torch._C._len_torch_function_stack())
        self.hooks.append(sum(len(each._forward_hooks) for each in self.modules()))

    def forward(self, x: Tensor) -> Tensor:
        self.look()
        x = self.last(self.first(x))
        self.look()
        return self.head(x.mean((2, 3)))


def test_nothing_looks_on_before_the_layer_once_it_is_known() -> None:
    model, x = Watched(), image(2)
    first = medsal.explain(model, x, 0, signed=True)
    assert model.hooks[0] == 3
    second = medsal.explain(model, x, 0, signed=True)
    assert model.hooks[2:] == [1, 1]
    assert model.modes[2:] == [0, 1]
    assert torch.equal(first.data, second.data)
    model.look()
    assert (model.modes[-1], model.hooks[-1]) == (0, 0)


class Spy(torch.overrides.TorchFunctionMode):
    """A mode of the network's own; it puts down what it sees."""

    seen: ClassVar[list[str]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_a_mode_that_the_network_enters_is_left_in_order() -> None:
    class Inside(Watched):
        def forward(self, x: Tensor, mode: bool = True) -> Tensor:
            with Spy() if mode else nullcontext():
                x = self.last(self.first(x)).relu()
                self.look()
            self.look()
            return self.head(x.mean((2, 3)))

    model, x = Inside(), image(2)
    for _ in range(2):
        Spy.seen.clear()
        result = medsal.explain(model, x, 0, layer="last", signed=True)
        # Nothing of ours lies on top of the network's mode as it is left.
        assert model.modes[-2:] == [1, 0]
        assert "relu" in Spy.seen
        assert "linear" not in Spy.seen
    asked = {"layer": "last", "signed": True, "forward_kwargs": {"mode": False}}
    assert torch.equal(result.data, medsal.explain(model, x, 0, **asked).data)
    assert torch._C._len_torch_function_stack() == 0


LARGER: dict[str, Callable[[], nn.Module]] = {
    "densenet": lambda: DenseNet(3, 1, 3, 16, 8, (2, 4)),
    "resnet": lambda: resnet10(n_input_channels=1, num_classes=3, widen_factor=0.25),
    "gated": lambda: nn.Sequential(
        nn.Conv3d(1, 32, 3, stride=2),
        *[
            nn.Sequential(nn.Conv3d(32, 32, 3, padding=1), nn.ReLU(), ChannelSELayer(3, 32))
            for _ in range(4)
        ],
        *(nn.Conv3d(32, 8, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3)),
    ),
}


@pytest.mark.parametrize("name", LARGER)
def test_peaks_of_memory(name: str) -> None:
    """In bytes of live tensors, which no machine changes."""
    net, x = LARGER[name]().eval(), torch.rand(1, 1, 48, 48, 48)
    with torch.no_grad():
        forward = live(lambda: net(x))
    assert live(lambda: medsal.explain(net, x, 1)) <= 1.05 * forward
    three = 3 * x.nbytes
    assert live(lambda: medsal.explain(net, x, [0, 1, 2])) <= max(1.05 * forward, 1.05 * three)
    assert live(lambda: medsal.explain(net, x, 1, "guided_backprop")) <= 2.5 * forward


class Heap:
    """An allocator of which it is known how much it has handed out, and was asked to give back."""

    def __init__(self, used: list[int]) -> None:
        self.used, self.trims = iter(used), 0

    def mallinfo2(self) -> Any:
        return SimpleNamespace(uordblks=next(self.used), hblkhd=0)

    def malloc_trim(self, left: int) -> None:
        self.trims += 1


@pytest.mark.parametrize(
    ("before", "after", "trims"),
    [
        (100, [100, 100], 0),
        (100, [60, 30], 1),  # 70 of what the pass freed are still held: more than 50
        (0, [0, 0], 0),  # what others have left free is not its doing
        (100, [40, 40], 2),
    ],
)
def test_what_a_pass_leaves_free_is_given_back(
    before: int, after: list[int], trims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    heap = Heap([each * 2**20 for each in (before, *after)])
    pages = SimpleNamespace(read_text=lambda: f"999 {100 * 2**20 // os.sysconf('SC_PAGE_SIZE')}")
    for name, value in {"_glibc": heap, "_pass": trimming._Pass(), "_PAGES": pages}.items():
        monkeypatch.setattr(trimming, name, value)
    monkeypatch.setattr(trimming, "_EVERY", 3)
    monkeypatch.setattr(trimming, "_MUCH", 50 * 2**20)
    trimming.begin()
    for _ in (before, *after):
        trimming.made(torch.zeros(1))
    assert heap.trims == trims


def test_gradients_count_what_they_make(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(trimming, "_glibc", True)
    monkeypatch.setattr(trimming, "_unused", lambda: asked.append(1) or 0)
    net, x = LARGER["densenet"]().eval(), torch.rand(1, 1, 32, 32, 32)
    medsal.explain(net, x, 1, "guided_backprop")
    assert not asked  # what it makes is small
    monkeypatch.setattr(trimming, "_EVERY", x.nbytes)
    usual = medsal.explain(net, x, 1, "guided_backprop").data
    # The forward pass alone makes eight channels of half the image's size each.
    assert len(asked) >= 2 + 8 / 2**3
    monkeypatch.setattr(trimming, "_glibc", None)
    assert torch.equal(medsal.explain(net, x, 1, "guided_backprop").data, usual)


@pytest.mark.skipif(not trimming._glibc, reason="glibc alone tells")
def test_what_is_free_is_told() -> None:
    def resident() -> int:
        return int(trimming._PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, resided = trimming._unused(), resident()
    held = torch.ones(2**24)  # 64 MiB, written: mapped for it, or out of what was free
    mapped = resident() - resided
    assert abs(trimming._unused() - before - (mapped - held.nbytes)) < 2**24
    del held
