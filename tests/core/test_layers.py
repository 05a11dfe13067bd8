"""Which layer `layer=None` means, and what other layers are."""

import re
import subprocess
import sys
import warnings
from collections import OrderedDict
from typing import Any

import pytest
import torch
from core_nets import CONV, Nasty, Residual, Segmenter, Tiny, image, spatial
from monai.networks import nets
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import medsal
from medsal import explain
from medsal.probe.taps.default import Candidate, LastSpatial


def found(model: nn.Module, x: Tensor) -> str:
    """The default, asked in three ways."""
    (listed,) = [each.name for each in medsal.layers(model, x) if each.default]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = (medsal.Probe(model, everything).taps(x)[0].layer for _ in range(2))
    assert listed == first == second
    return first


def everything(output: Any) -> Tensor:
    output = output[0] if isinstance(output, tuple | list) else output
    return output.flatten(1).sum(1)


class Head(nn.Module):
    """Features, a pooling, and a head."""

    def __init__(self, pool: Any, *head: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.pool = pool if isinstance(pool, nn.Module) else None
        self.by = pool
        self.head = nn.Sequential(*head)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head(self.by(x))


def linear() -> tuple[nn.Module, ...]:
    return (nn.Flatten(), nn.Linear(4, 2))


def convs() -> tuple[nn.Module, ...]:
    return (nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Dropout(), nn.Conv2d(8, 2, 1))


HEADS = {
    "adaptive": lambda: Head(nn.AdaptiveAvgPool2d(1), *linear()),
    "adaptive max": lambda: Head(nn.AdaptiveMaxPool2d(1), *linear()),
    "window": lambda: Head(nn.AvgPool2d(12), *linear()),
    "functional": lambda: Head(lambda x: x.mean((2, 3)), nn.Linear(4, 2)),
    "functional kept": lambda: Head(lambda x: x.mean((2, 3), keepdim=True), *convs()),
    "convolutions": lambda: Head(nn.AdaptiveAvgPool2d(1), *convs(), nn.Flatten()),
    "function": lambda: Head(lambda x: nn.functional.adaptive_avg_pool2d(x, 1), *convs()),
    "flat": lambda: Head(lambda x: x, nn.Flatten(), nn.Linear(576, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_heads(name: str) -> None:
    assert found(HEADS[name](), torch.rand(2, 1, 12, 12)) == "features"


class Shared(nn.Module):
    """One activation for the features and for the head, as networks are often written."""

    def __init__(self, convolutions: bool) -> None:
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(4, 4)
        self.points = nn.Conv2d(4, 4, 1) if convolutions else None
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x)).mean((2, 3), keepdim=True)
        if self.points is not None:
            x = self.act(self.points(x))
        return self.head(self.act(self.fc(x.flatten(1))))


def test_an_activation_that_is_shared_with_the_head() -> None:
    x = image(2)
    assert found(Shared(False), x) == "act"
    assert found(Shared(True), x) == "conv"
    torch.manual_seed(2)
    model = Shared(False)
    first, second, named = (explain(model, x, 0, layer=name).data for name in (None, None, "act"))
    assert torch.equal(first, second)
    assert torch.equal(first, named)


class SqueezeAndExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.Sigmoid()
        )
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head((x * self.squeeze(x)).mean((2, 3)))


HAND: dict[str, tuple[Any, str]] = {
    "tiny": (lambda: Tiny(2), "relu"),
    "nasty": (lambda: Nasty(2), "norm"),
    "squeeze": (SqueezeAndExcite, "conv"),
    "segmenter": (lambda: Segmenter(2), "encoder"),
    "softmax": (lambda: nn.Sequential(*Segmenter(2).children(), nn.Softmax(1)), "0"),
    "block": (lambda: nn.Sequential(nn.Conv2d(1, 4, 1), Residual(2, nn.ReLU())), "1.norm"),
    "list": (lambda: Tail(Segmenter(2), lambda y: [y, y]), "net.encoder"),
    "dict": (lambda: Tail(Segmenter(2), lambda y: {"a": y}), "net.encoder"),
    "sigmoid": (lambda: Tail(Segmenter(2), torch.sigmoid), "net.encoder"),
    "cropped": (lambda: Tail(Segmenter(2), lambda y: y[..., 1:-1]), "net.encoder"),
    "features too": (lambda: WithFeatures(), "relu"),
}


class Tail(nn.Module):
    def __init__(self, net: nn.Module, tail: Any) -> None:
        super().__init__()
        self.net, self.tail = net, tail

    def forward(self, x: Tensor) -> Any:
        return self.tail(self.net(x))


class WithFeatures(Tiny):
    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Any:
        x = self.relu(self.conv(x))
        return self.head(x.mean(spatial(x))), x


@pytest.mark.parametrize("name", HAND)
def test_hand_made(name: str) -> None:
    model, x = HAND[name][0](), image(2)
    if name == "dict":
        probe = medsal.Probe(model, lambda output: output["a"].flatten(1).sum(1))
        assert probe.taps(x)[0].layer == HAND[name][1]
    else:
        assert found(model, x) == HAND[name][1]


def resnet18() -> nn.Module:
    return nets.resnet18(spatial_dims=2, n_input_channels=1, num_classes=3)


def efficientnet() -> nn.Module:
    return nets.EfficientNetBN("efficientnet-b0", False, spatial_dims=2, in_channels=1)


def dynunet() -> nn.Module:
    return nets.DynUNet(2, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8])


def vit() -> nn.Module:
    return nets.ViT(
        1, 32, 8, 24, 48, 2, 2, classification=True, num_classes=3, spatial_dims=2
    )  # fmt: skip


# How to build it, the image's size, and its default layer.
MONAI: dict[str, tuple[Any, int, str]] = {
    "densenet": (lambda: nets.DenseNet121(2, 1, 3), 64, "class_layers.relu"),
    "resnet": (resnet18, 64, "layer4"),
    "seresnet": (lambda: nets.SEResNet50(spatial_dims=2, in_channels=1), 64, "layer4"),
    "efficientnet": (efficientnet, 64, "_swish"),
    "unet": (lambda: nets.UNet(2, 1, 3, (4, 8), (2,)), 16, "model.1"),
    "dynunet": (dynunet, 16, "upsamples.1"),
    "attention unet": (lambda: nets.AttentionUnet(2, 1, 3, (4, 8), (2,)), 16, "model.1"),
    "high resolution": (lambda: nets.HighResNet(2, 1, 3), 16, "blocks.11.conv"),
    "vnet": (lambda: nets.VNet(2, 1, 3), 32, "out_tr.act_function1"),
    "unetr": (lambda: nets.UNETR(1, 3, 32, 4, 24, 48, 2, spatial_dims=2), 32, "decoder2"),
    "vit": (vit, 32, "patch_embedding.patch_embeddings"),
}


@pytest.mark.parametrize("name", MONAI)
def test_networks_of_monai(name: str) -> None:
    build, size, layer = MONAI[name]
    model = build().eval()
    assert found(model, torch.rand(1, 1, size, size)) == layer


def test_one_cell_is_told_in_the_same_pass() -> None:
    model = nets.DenseNet(3, 1, 3, 8, 4, (2, 2, 2, 2), bn_size=1)
    passes = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    with pytest.warns(UserWarning, match=r"one cell on an axis.*transition3.*\(2, 2, 2\)"):
        result = explain(model, torch.rand(1, 1, 32, 32, 32))
    assert result.cells == (1, 1, 1)
    assert "transition" in result.notes[0]
    assert len(passes) == 1
    with pytest.warns(UserWarning, match="one cell"):
        explain(model, torch.rand(1, 1, 32, 32, 32))
    assert explain(model, torch.rand(1, 1, 64, 64, 64)).cells == (2, 2, 2)


def test_a_model_that_changed_is_searched_again() -> None:
    model, x = HEADS["adaptive"](), image(2)
    assert explain(model, x).layer == "features"
    model.features.append(nn.Conv2d(4, 4, 1))
    assert explain(model, x).layer == "features"
    model.pool, model.by = None, nn.Sequential(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1))
    assert explain(model, x).layer == "by.0"


def test_names() -> None:
    model, x = Nasty(2), image(2)
    for name, error, said in (
        ("lasst", LookupError, "'last'"),
        ("", LookupError, "no layer"),
        ("head", ValueError, "spatial axes"),
        ("last[0]", TypeError, "not one tensor"),
    ):
        with pytest.raises(error, match=said):
            medsal.Probe(model, medsal.ClassScore(0)).taps(x, [name])
    spare = Tiny(2)
    spare.spare = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match="takes no part"):
        explain(spare, x, layer="spare")
    # A module of two names answers to both.
    a, b = (explain(model, x, 1, layer=name).data for name in ("block.second", "again.second"))
    assert torch.equal(a, b)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([each.mean((2, 3)) for each in self.encoder(x)], 1))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 4, 3, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.a(x)
        return a, self.b(a)


def test_parts_of_an_output() -> None:
    model, x = Parts(), image(2)
    with pytest.raises(TypeError, match=r"'encoder\[0\]' \(2, 2, 10, 12\), 'encoder\[1\]'"):
        explain(model, x, layer="encoder")
    assert explain(model, x, layer="encoder[1]").cells == (4, 5)
    assert explain(model, x, layer="encoder[0]").cells == (10, 12)
    assert torch.equal(
        explain(model, x, layer="encoder[1]").data, explain(model, x, layer="encoder.b").data
    )


def test_parts_of_parts() -> None:
    class Nested(nn.Module):
        def __init__(self, wrap: Any) -> None:
            super().__init__()
            self.conv, self.wrap = nn.Conv2d(1, 3, 3), wrap

        def forward(self, x: Tensor) -> Any:
            return self.wrap(self.conv(x))

    class Sums(nn.Module):
        def __init__(self, wrap: Any, unwrap: Any) -> None:
            super().__init__()
            self.inner, self.unwrap = Nested(wrap), unwrap

        def forward(self, x: Tensor) -> Tensor:
            return self.unwrap(self.inner(x)).mean((2, 3))

    x = image(2)
    torch.manual_seed(0)
    usual = explain(Sums(lambda y: y, lambda y: y), x, 1).data
    for wrap, unwrap, part in (
        (lambda y: (None, [y, y * 2]), lambda y: y[1][0], "[1][0]"),
        (lambda y: {"low": y, "high": None}, lambda y: y["low"], "[low]"),
        (lambda y: OrderedDict(a=[y]), lambda y: y["a"][0], "[a][0]"),
    ):
        torch.manual_seed(0)
        net = Sums(wrap, unwrap)
        assert torch.equal(explain(net, x, 1, layer=f"inner{part}").data, usual)
        with pytest.raises(TypeError, match=f"'inner{re.escape(part)}'"):
            explain(net, x, 1, layer="inner")
        with pytest.raises(TypeError, match=f"'inner{re.escape(part)}'"):
            explain(net, x, 1, layer="inner[7]")
        (listed,) = [each for each in medsal.layers(net, x) if each.name == "inner"]
        assert listed.shape is None
        assert listed.parts[0] == (part, (2, 3, 10, 12))


class ChannelsLast(nn.Module):
    """As in transformers: features (n, h, w, k) between layers that work on the last axis."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 6, 3), last
        self.norm, self.act, self.back = nn.LayerNorm(6), nn.GELU(), Back()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(self.conv(x).permute(0, 2, 3, 1)))
        return self.head(y.mean((1, 2)) if self.last else self.back(y).mean((2, 3)))


class Back(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


def test_channels_last() -> None:
    torch.manual_seed(0)
    last, x = ChannelsLast(True), image(2)
    back = ChannelsLast(False)
    back.load_state_dict(last.state_dict())
    assert found(last, x) == "act"
    assert found(back, x) == "back"
    result = explain(last, x, 0)
    assert result.cells == (10, 12)
    torch.testing.assert_close(result.data, explain(back, x, 0).data)
    torch.testing.assert_close(
        explain(last, x, 0, layer="norm").data, explain(back, x, 0, layer="norm").data
    )


def test_windows_are_refused() -> None:
    class Windows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat(x.chunk(2, 2), 0)

    model = nn.Sequential(nn.Conv2d(1, 4, 1), Windows(), Pooled(), nn.Linear(4, 2))
    assert explain(model, image(2), lambda output: output.sum(1)[:2]).layer == "0"
    with pytest.raises(ValueError, match="2 samples"):
        explain(model, image(2), lambda output: output.sum(1)[:2], layer="1")


class Pooled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript() -> None:
    x = image(2)
    plain = HEADS["adaptive"]().eval()
    plain = nn.Sequential(plain.features, plain.pool, plain.head).eval()
    usual = explain(plain, x, 0, "gradient").data
    for model in (
        torch.jit.script(plain),
        torch.jit.trace(plain, x),
        torch.jit.freeze(torch.jit.script(plain).eval()),
    ):
        torch.testing.assert_close(explain(model, x, 0, "gradient").data, usual)
        for method in ("gradcam", "guided_backprop"):
            with pytest.raises(TypeError, match="TorchScript"):
                explain(model, x, 0, method)
        with pytest.raises(TypeError, match="TorchScript"):
            medsal.layers(model, x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_inside() -> None:
    script = torch.jit.script(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval())
    model, x = nn.Sequential(script, nn.Conv2d(4, 4, 1), nn.ReLU(), Pooled()), image(2)
    assert found(model, x) == "2"
    with pytest.raises(TypeError, match="TorchScript"):
        explain(model, x, 0, layer="0")
    with pytest.raises(TypeError, match="TorchScript"):
        explain(model, x, 0, "guided_backprop")


def test_wrappers() -> None:
    model, x = Nasty(2), image(2)
    usual = explain(model, x, 1)
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        result = explain(wrapped, x, 1)
        assert torch.equal(result.data, usual.data)
        assert result.layer == usual.layer
        assert result.model == usual.model


def test_compiled_parts_run_as_they_are() -> None:
    x = image(2)
    torch.manual_seed(1)
    usual = explain(Residual4(), x, everything, "guided_backprop").data
    torch.manual_seed(1)
    model = Residual4()
    model.block.compile(backend="eager")
    stance = torch._dynamo.eval_frame._stance
    assert torch.equal(explain(model, x, everything, "guided_backprop").data, usual)
    assert torch._dynamo.eval_frame._stance == stance


class Residual4(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = CONV[2](1, 4, 1), Residual(2, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.stem(x)).mean((2, 3))


class Checkpointed(Residual4):
    def forward(self, x: Tensor) -> Tensor:
        y = checkpoint(self.block, self.stem(x), use_reentrant=False)
        return y.mean((2, 3))


@pytest.mark.parametrize("layer", [None, "stem", "block", "block.norm", "block.first", "block.act"])
def test_checkpointing_inside_and_around(layer: str | None) -> None:
    torch.manual_seed(1)
    usual = explain(Residual4(), image(2), everything, layer=layer, signed=True)
    torch.manual_seed(1)
    model = Checkpointed()
    for _ in range(2):
        result = explain(model, image(2), everything, layer=layer, signed=True)
        assert result.layer == usual.layer
        torch.testing.assert_close(result.data, usual.data)


class TwoHeads(nn.Module):
    """A second branch, whose many layers end last, makes an output that is not the first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.main = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.final = nn.Conv2d(4, 3, 1)
        self.aside = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(12))

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        first = self.final(self.main(x))
        for conv in self.aside:
            x = conv(x).relu()
        return first, x


@pytest.mark.parametrize("order", [("gradcam", "eigencam"), ("eigencam", "gradcam")])
def test_a_branch_beside_the_score_that_ends_last(order: tuple[str, str]) -> None:
    model, x = TwoHeads(), image(2)
    assert [explain(model, x, everything, each).layer for each in order] == ["main", "main"]
    # Where nobody can ask for gradients it is the last one on a grid, for this once.
    constant: Any = lambda output: output[0].detach().flatten(1).sum(1)  # noqa: E731
    assert explain(TwoHeads(), x, constant, "eigencam").layer.startswith("aside")
    assert [each.name for each in medsal.layers(model, x) if each.default] == ["main"]


class Keeps(nn.Module):
    """Keeps what it puts out, for others to read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.conv(x).sigmoid()
        return self.kept


class ReadsAside(nn.Module):
    """A segmentation whose second output was read off its last block, beside the way."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.block = Keeps()

    def forward(self, x: Tensor) -> Any:
        return self.block(self.stem(x)), self.block.kept


def test_what_a_network_reads_beside_the_way_stays_whole() -> None:
    model, x = ReadsAside().eval(), image(2)
    both: Any = lambda output: (output[0] * output[1]).flatten(1).sum(1)  # noqa: E731
    first, second = (explain(model, x, both, signed=True) for _ in range(2))  # searched, then known
    named = explain(model, x, both, layer="stem", signed=True)
    assert first.layer == second.layer == "stem"
    for each in (first, second):
        torch.testing.assert_close(each.data, named.data)
        for got, usual in zip(each.output, model(x), strict=True):
            assert torch.equal(got, usual)


def test_a_layer_beside_others_is_found_once_for_medsals_targets() -> None:
    model, x, passes = TwoHeads(), image(2), []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    mask = torch.ones(1, *x.shape[2:], dtype=torch.bool)
    asked = [explain(model, x, medsal.Region(k, mask)).layer for k in (0, 1, 2)]
    assert asked == ["main"] * 3
    first = len(passes) - 2
    passes.clear()
    explain(model, x, medsal.Region(1, mask))
    assert (len(passes), first > 1) == (1, True)
    # The other output depends on other layers, and the first one's are found all the same.
    aside: Any = lambda output: output[1].flatten(1).sum(1)  # noqa: E731
    for _ in range(2):
        assert explain(model, x, aside).layer.startswith("aside")
        assert explain(model, x, everything).layer == "main"
        assert explain(model, x, medsal.Region(1, mask)).layer == "main"


@pytest.mark.parametrize(
    ("made", "ends", "left"),
    [
        (["a", "b", "c"], [], 1),  # a classifier's
        (["a", "b", "c"], ["d", "e"], 1),  # not yet at the end
        (["a", "b", "c"], ["b", "c"], 2),  # c may be the output, and b the features
        (["a", "b", "c.0", "c.1"], ["c.0", "c.1"], 3),  # or the block c
        (["a", "b", "c.0", "c.1", "c"], ["c.0", "c.1"], 4),  # which adds branches up
        (["a", "b.0", "b.1", "b.2"], ["b.1", "b.2"], 4),  # b, or b.2 alone
        (["a.0", "a.1", "a.2"], ["a.2"], 2),  # nothing is before a: a.1 and a.2
    ],
)
def test_which_candidates_may_yet_be_the_default(
    made: list[str], ends: list[str], left: int
) -> None:
    last = LastSpatial(image(2))
    last.candidates = [Candidate(each, each, True, 1) for each in made]
    assert last.left_open(ends) == left
    # An activation at the very end is no layer of features.
    if 1 < left < 4:
        last.candidates.append(Candidate("sigmoid", "sigmoid", False, 1))
        assert last.left_open([*ends, "sigmoid"]) == left + 1


_NO_MODULES = """
import medsal, torch
for model in ("resnet", None, torch.relu):
    for ask in (medsal.explain, medsal.layers):
        try:
            ask(model, torch.zeros(1, 1, 8, 8))
        except TypeError as error:
            print(error)
"""


def test_what_is_no_module_is_refused() -> None:
    # In a process of its own: here every annotation is checked before.
    ran = subprocess.run([sys.executable, "-c", _NO_MODULES], capture_output=True, text=True)
    said = "expected a model as a torch.nn.Module, got "
    names = ("str", "NoneType", "builtin_function_or_method")
    assert ran.stdout.splitlines() == [said + name for name in names for _ in range(2)], ran.stderr
