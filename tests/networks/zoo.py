"""Every network of MONAI that takes an image and gives classes or voxels, built small."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from monai.networks import nets
from torch import Tensor, nn


@dataclass(frozen=True)
class Entry:
    """One network: how to build it, what image it takes, and what is known of it.

    Attributes:
        build: makes the network.
        size: ``(c, *s)`` of an image.
        guided: whether guided backpropagation is defined: ReLU and no other rectifier.
        target: what is explained; None = the prediction.
    """

    build: Callable[[], nn.Module]
    size: tuple[int, ...]
    guided: bool
    target: Any = None


def _both(
    name: str, build: Callable[[int], nn.Module], size: int, guided: bool, **known: Any
) -> dict[str, Entry]:
    """The network in 3D and in 2D."""
    return {
        f"{name} {d}D": Entry(partial(build, d), (1, *(size,) * d), guided, **known) for d in (3, 2)
    }


def densenet(kind: type[nn.Module]) -> Callable[[int], nn.Module]:
    return lambda d: kind(spatial_dims=d, in_channels=1, out_channels=3)


def resnet(kind: Callable[..., nn.Module]) -> Callable[[int], nn.Module]:
    return lambda d: kind(spatial_dims=d, n_input_channels=1, num_classes=3)


def senet(kind: type[nn.Module]) -> Callable[[int], nn.Module]:
    return lambda d: kind(spatial_dims=d, in_channels=1, num_classes=3)


def segmenter(kind: type[nn.Module], **options: Any) -> Callable[[int], nn.Module]:
    return lambda d: kind(spatial_dims=d, in_channels=1, out_channels=3, **options)


def dynunet(d: int, deep: bool = False) -> nn.Module:
    return nets.DynUNet(
        d, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32],
        deep_supervision=deep, deep_supr_num=1,
    )  # fmt: skip


ZOO: dict[str, Entry] = {
    **_both("DenseNet121", densenet(nets.DenseNet121), 64, True),
    **_both("DenseNet169", densenet(nets.DenseNet169), 64, True),
    **_both("ResNet10", resnet(nets.resnet10), 64, True),
    **_both("ResNet18", resnet(nets.resnet18), 64, True),
    **_both("ResNet34", resnet(nets.resnet34), 64, True),
    **_both("ResNet50", resnet(nets.resnet50), 64, True),
    **_both("SEResNet50", senet(nets.SEResNet50), 64, True),
    **_both("SEResNeXt50", senet(nets.SEResNext50), 64, True),
    **_both("SENet154", senet(nets.SENet154), 64, True),
    **_both(
        "EfficientNetBN",
        lambda d: nets.EfficientNetBN("efficientnet-b0", False, spatial_dims=d, in_channels=1, num_classes=3),
        64,
        False,
    ),
    **_both("HighResNet", segmenter(nets.HighResNet), 16, True),
    **_both(
        "Classifier",
        lambda d: nets.Classifier(in_shape=(1, *(32,) * d), classes=3, channels=(4, 8), strides=(2, 2)),
        32,
        False,
    ),
    **_both(
        "Classifier(ReLU)",
        lambda d: nets.Classifier(
            in_shape=(1, *(32,) * d), classes=3, channels=(4, 8), strides=(2, 2), act="relu"
        ),
        32,
        True,
    ),
    **_both(
        "Discriminator",
        lambda d: nets.Discriminator(in_shape=(1, *(32,) * d), channels=(4, 8), strides=(2, 2)),
        32,
        False,
    ),
    **_both(
        "Critic", lambda d: nets.Critic(in_shape=(1, *(32,) * d), channels=(4, 8), strides=(2, 2)), 32, False
    ),
    **_both(
        "Regressor",
        lambda d: nets.Regressor(in_shape=(1, *(32,) * d), out_shape=(2,), channels=(4, 8), strides=(2, 2)),
        32,
        False,
        target=lambda output: output[:, 0],
    ),
    **_both("UNet", segmenter(nets.UNet, channels=(4, 8, 16), strides=(2, 2)), 32, False),
    **_both("UNet(ReLU)", segmenter(nets.UNet, channels=(4, 8, 16), strides=(2, 2), act="relu"), 32, True),
    **_both("BasicUNet", segmenter(nets.BasicUNet, features=(4, 4, 8, 8, 16, 4)), 32, False),
    **_both("BasicUNetPlusPlus", segmenter(nets.BasicUNetPlusPlus, features=(4, 4, 8, 8, 16, 4)), 32, False),
    **_both("AttentionUnet", segmenter(nets.AttentionUnet, channels=(4, 8, 16), strides=(2, 2)), 32, False),
    **_both("DynUNet", dynunet, 32, False),
    **_both("DynUNet(deep supervision)", partial(dynunet, deep=True), 32, False),
    **_both("SegResNet", segmenter(nets.SegResNet, init_filters=8), 32, True),
    **_both("SegResNetDS", segmenter(nets.SegResNetDS, init_filters=4), 32, True),
    **_both(
        "SegResNetVAE",
        lambda d: nets.SegResNetVAE((32,) * d, spatial_dims=d, init_filters=8, out_channels=3),
        32,
        True,
    ),
    **_both("VNet", segmenter(nets.VNet), 32, False),
    **_both(
        "UNETR",
        lambda d: nets.UNETR(
            1, 3, (32,) * d, feature_size=4, hidden_size=48, mlp_dim=48, num_heads=4, spatial_dims=d
        ),
        32,
        False,
    ),
    **_both("SwinUNETR", segmenter(nets.SwinUNETR, feature_size=12), 64, False),
    **_both(
        "FlexibleUNet",
        lambda d: nets.FlexibleUNet(1, 3, "efficientnet-b0", spatial_dims=d, decoder_channels=(16, 8, 8, 4, 4)),
        32,
        False,
        # With random weights it finds no foreground.
        target=lambda output: output[:, 1].flatten(1).sum(1),
    ),
    **_both("MedNeXt", segmenter(nets.MedNeXt, init_filters=4), 32, False),
    **_both(
        "AutoEncoder",
        lambda d: nets.AutoEncoder(spatial_dims=d, in_channels=1, out_channels=1, channels=(4, 8), strides=(2, 2)),
        32,
        False,
        target=lambda output: output.flatten(1).sum(1),
    ),
    **_both(
        "ViT",
        lambda d: nets.ViT(
            1, (32,) * d, (8,) * d, hidden_size=48, mlp_dim=48, num_layers=2, num_heads=4,
            classification=True, num_classes=3, spatial_dims=d,
        ),
        32,
        False,
    ),
    **_both(
        "ResNetFeatures",
        lambda d: nets.ResNetFeatures("resnet10", pretrained=False, spatial_dims=d, in_channels=1),
        64,
        True,
        target=lambda output: output[-1].flatten(1).sum(1),
    ),
    "AHNet 3D": Entry(lambda: nets.AHNet(spatial_dims=3, in_channels=1, out_channels=3, psp_block_num=0), (1, 64, 64, 64), True),
    "AHNet 2D": Entry(lambda: nets.AHNet(spatial_dims=2, in_channels=1, out_channels=3, psp_block_num=0), (1, 64, 64), True),
}  # fmt: skip


def image_of(entry: Entry, samples: int = 1) -> Tensor:
    """A seeded image of the right size."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(samples, *entry.size, generator=generator)
