"""Tokens of transformers on their grid, or a refusal that says so."""

import math
from typing import Any

import pytest
import torch
from monai.networks import nets
from monai.networks.nets.swin_unetr import window_reverse
from torch import Tensor, nn

import medsal
from medsal import explain

SIZE = {1: (64,), 2: (32, 48), 3: (16, 16, 24)}
PATCH = {1: (8,), 2: (8, 8), 3: (8, 8, 8)}


def vit(d: int, proj: str = "conv", classes: bool = True) -> nn.Module:
    return nets.ViT(
        1, SIZE[d], PATCH[d], 24, 48, 2, 2, proj_type=proj, classification=classes,
        num_classes=3, spatial_dims=d,
    ).double().eval()  # fmt: skip


def score(output: Any) -> Tensor:
    first = output[0] if isinstance(output, tuple) else output
    return first.square().flatten(1).sum(1)


def by_hook(net: nn.Module, x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """A layer's output as it is and the gradient by it, by ordinary means."""
    seen: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda *went: seen.append(went[2]))
    found = score(net(x.clone().requires_grad_())).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(found, seen[-1])
    return seen[-1].detach(), gradient


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("proj", ["conv", "perceptron"])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_tokens_of_patches(d: int, proj: str, classes: bool) -> None:
    net, x = vit(d, proj, classes), torch.rand(3, 1, *SIZE[d], dtype=torch.float64)
    grid = tuple(size // patch for size, patch in zip(SIZE[d], PATCH[d], strict=True))
    for name in ("patch_embedding", "blocks.0", "blocks.1.norm1", "blocks.0.attn.qkv"):
        (tap,) = medsal.Probe(net, score).taps(x, [name])
        for found, tokens in zip(
            (tap.activations, *tap.gradients), by_hook(net, x, name), strict=True
        ):
            # The class token is the first one.
            cells = tokens[:, -math.prod(grid) :]
            assert torch.equal(found, cells.transpose(1, 2).reshape(3, -1, *grid))
    assert explain(net, x, score, layer="blocks.1.norm1").cells == grid


class Swin(nn.Module):
    """The first stage of MONAI's Swin transformer behind a convolution."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, channels, 1), nn.Linear(2 * channels, 2)
        self.stage = nets.swin_unetr.BasicLayer(
            channels, 2, 2, (window, window), [0.0, 0.0], downsample=nets.swin_unetr.PatchMergingV2
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("window", [7, 5])
def test_tokens_in_windows(window: int) -> None:
    """Shifted and padded windows, put back by the network's own function."""
    net, size = Swin(8, window).double().eval(), (16, 12)
    x = torch.rand(2, 1, *size, dtype=torch.float64)
    padded = [-(-each // window) * window for each in size]
    for block, shift in ((0, 0), (1, window // 2)):
        for layer in ("attn", "attn.qkv"):
            name = f"stage.blocks.{block}.{layer}"
            (tap,) = medsal.Probe(net, score).taps(x, [name])
            for found, tokens in zip(
                (tap.activations, *tap.gradients), by_hook(net, x, name), strict=True
            ):
                shaped = tokens.reshape(-1, window, window, tokens.shape[-1])
                back = window_reverse(shaped, (window, window), (2, *padded))
                rolled = back.roll((shift, shift), (1, 2))[:, : size[0], : size[1]]
                assert torch.equal(found, rolled.movedim(-1, 1))
    with pytest.raises(ValueError, match="among tokens"):
        explain(net, x, score, layer="stage.blocks.1.attn.softmax")


@pytest.mark.parametrize("size", [(16, 12), (8, 8)])
def test_as_many_channels_as_cells(size: tuple[int, int]) -> None:
    """SwinUNETR at its usual size has 48 features on a grid of 48: the shape tells nothing."""
    net, x = Swin(8, 4).double().eval(), torch.rand(2, 1, *size, dtype=torch.float64)
    for name in ("stage.blocks.0", "stage.blocks.1", "stage.blocks.1.norm1", "stage.downsample"):
        (tap,) = medsal.Probe(net, score).taps(x, [name])
        assert torch.equal(tap.activations, by_hook(net, x, name)[0].movedim(-1, 1))


@pytest.mark.parametrize("method", ["ablationcam", "scorecam", "eigencam", "gradcam++"])
def test_methods_on_tokens(method: str) -> None:
    net, x = vit(2), torch.rand(2, 1, *SIZE[2], dtype=torch.float64)
    together = explain(net, x, 1, method, layer="blocks.1.norm1", signed=True)
    assert together.cells == (4, 6)
    assert together.data.any()
    for i in range(2):
        alone = explain(net, x[i][None], 1, method, layer="blocks.1.norm1", signed=True)
        torch.testing.assert_close(alone.data, together.data[i][None], rtol=1e-5, atol=1e-9)


def test_an_ablated_channel_of_tokens() -> None:
    """The class token stays as it is: it has no place in the map."""
    net, x = vit(2), torch.rand(1, 1, *SIZE[2], dtype=torch.float64)
    found = explain(
        net, x, 1, "ablationcam", layer="blocks.1.norm1", signed=True, divide="none"
    )  # fmt: skip
    whole, tokens = net(x)[0][:, 1], by_hook(net, x, "blocks.1.norm1")[0]
    expected = torch.zeros(4, 6, dtype=torch.float64)
    for k in range(24):

        def without(module: nn.Module, inputs: Any, output: Tensor, k: int = k) -> Tensor:
            changed = output.clone()
            changed[:, 1:, k] = 0
            return changed

        handle = net.blocks[1].norm1.register_forward_hook(without)
        lost = whole - net(x)[0][:, 1]
        handle.remove()
        expected += (lost * tokens[0, 1:, k]).detach().reshape(4, 6)
    upsampled = nn.functional.interpolate(expected[None, None], SIZE[2], mode="bilinear")
    torch.testing.assert_close(found.data, upsampled.float(), rtol=1e-4, atol=1e-7)


def test_what_has_no_place_is_refused() -> None:
    net, x = vit(2), torch.rand(3, 1, *SIZE[2], dtype=torch.float64)
    with pytest.raises(ValueError, match="class token alone"):
        explain(net, x, 1, layer="norm")
    with pytest.raises(ValueError, match="among tokens"):
        explain(net, x, 1, layer="blocks.1.attn.drop_weights")
    # Three samples of 3D, so that queries, keys and values look like them.
    net, x = vit(3), torch.rand(3, 1, *SIZE[3], dtype=torch.float64)
    with pytest.raises(ValueError, match="among tokens"):
        explain(net, x, 1, layer="blocks.1.attn.input_rearrange")


class Shuffled(nn.Module):
    """Tokens that lie otherwise than row by row."""

    def __init__(self, read: Any) -> None:
        super().__init__()
        self.conv, self.read = nn.Conv2d(1, 6, 4, stride=4), read
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.read(self.conv(x))).mean(1))


def test_the_order_is_seen_not_guessed() -> None:
    x = torch.rand(2, 1, 16, 24, dtype=torch.float64)
    torch.manual_seed(0)
    rows = Shuffled(lambda y: y.flatten(2).transpose(1, 2)).double()
    usual = explain(rows, x, 0, "hirescam", layer="mix").data
    shuffle = torch.randperm(24)
    for read, placed in (
        (lambda y: y.transpose(2, 3).flatten(2).transpose(1, 2), True),
        (lambda y: torch.cat([y[:, :, 0, :2] * 0 + 7, y.flatten(2)], 2).transpose(1, 2), True),
        (lambda y: torch.cat([y.flatten(2), y[:, :, 0, :1] * 0], 2).transpose(1, 2), True),
        (lambda y: y.flatten(2).transpose(1, 2)[:, shuffle], False),
        (lambda y: y.flatten(2).transpose(1, 2)[:, ::2], False),
        (lambda y: y.flatten(2).permute(2, 0, 1), False),
    ):
        torch.manual_seed(0)
        net = Shuffled(read).double()
        if not placed:
            with pytest.raises(ValueError, match="can't be put back"):
                explain(net, x, lambda output: output.sum() * torch.ones(2), layer="mix")
            continue
        found = explain(net, x, 0, "hirescam", layer="mix")
        assert found.cells == (4, 6)
        scale = float(usual.abs().max() / found.data.abs().max())
        torch.testing.assert_close(found.data * scale, usual, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("d", [2, 3])
def test_a_layer_before_blocks_of_tokens_is_told(d: int) -> None:
    net, x = vit(d), torch.rand(1, 1, *SIZE[d], dtype=torch.float64)
    for layer in (None, None, "patch_embedding.patch_embeddings"):
        result = explain(net, x, score, layer=layer)
        assert result.layer == "patch_embedding.patch_embeddings"
        assert "layers of tokens" in result.notes[0]
        assert "first norm of the last block" in result.notes[0]
    swin = nets.SwinUNETR(1, 2, feature_size=12, spatial_dims=d, depths=(1, 1, 1, 1)).eval()
    large, region = torch.rand(1, 1, *(64,) * d), medsal.Region(0, torch.ones((64,) * d))
    others = [explain(net, x, score, layer="blocks.1.norm1"), explain(swin, large, region)]
    assert not any("layers of tokens" in note for each in others for note in each.notes)
