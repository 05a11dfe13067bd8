"""Every network of MONAI that takes an image and gives classes or voxels, built small."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
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
        linear: whether global average pooling and one linear layer follow the layer.
        layer: the layer of class activation maps; None = the default one.
        layers: whether there is a layer with the image's axes at all.
        input: the parameter that takes the image; None = the first one.
        kwargs: further arguments of the forward pass.
        needs: a package that must be there to build it.
        dtype: float64, but for networks that have float32 written into them.
        calm: whether its statistics are those of some images. With random ones a network may be so
            deep that the last digits of an image, of 16, change half of the score's.
    """

    build: Callable[[], nn.Module]
    size: tuple[int, ...]
    guided: bool
    target: Any = None
    linear: bool = False
    layer: str | None = None
    layers: bool = True
    input: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    needs: str | None = None
    dtype: torch.dtype = torch.float64
    calm: bool = False

    @property
    def lacks(self) -> str | None:
        """The package that is needed and is not there."""
        there = self.needs is None or importlib.util.find_spec(self.needs) is not None
        return None if there else self.needs


def _both(
    name: str, build: Callable[[int], nn.Module], size: int, guided: bool, **known: Any
) -> dict[str, Entry]:
    """The network in 3D and in 2D; ``flat`` = the size in 2D, where it is another."""
    flat = known.pop("flat", size)
    return {
        f"{name} {d}D": Entry(partial(build, d), (1, *(n,) * d), guided, **known)
        for d, n in ((3, size), (2, flat))
    }


def channel(k: int) -> Callable[[Any], Tensor]:
    """The sum of a channel of an output, or of the first one of several."""

    def score(output: Any) -> Tensor:
        while isinstance(output, tuple | list):
            output = output[0]
        return output[:, k].flatten(1).sum(1)

    return score


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


def vit(d: int, proj: str = "conv", classes: bool = True) -> nn.Module:
    return nets.ViT(
        1, (32,) * d, (8,) * d, hidden_size=24, mlp_dim=24, num_layers=2, num_heads=2,
        proj_type=proj, classification=classes, num_classes=3, spatial_dims=d,
    )  # fmt: skip


def vista3d() -> nn.Module:
    return nets.vista3d132(encoder_embed_dim=8)


def pictures() -> nn.Module:
    """A network of pictures that gives eight features."""
    return nets.DenseNet(2, 3, 8, 8, 4, (2, 2))


ZOO: dict[str, Entry] = {
    **_both("DenseNet121", densenet(nets.DenseNet121), 32, True, flat=64, layer="features.denseblock2"),
    **_both("DenseNet169", densenet(nets.DenseNet169), 32, True, flat=64, layer="features.denseblock2"),
    **_both("ResNet10", resnet(nets.resnet10), 16, True, flat=64, layer="layer2"),
    **_both("ResNet18", resnet(nets.resnet18), 16, True, flat=64, layer="layer2"),
    **_both("ResNet34", resnet(nets.resnet34), 16, True, flat=64, layer="layer2"),
    **_both("ResNet50", resnet(nets.resnet50), 16, True, flat=64, layer="layer2"),
    **_both("SEResNet50", senet(nets.SEResNet50), 32, True, flat=64, layer="layer2"),
    **_both("SEResNeXt50", senet(nets.SEResNext50), 32, True, flat=64, layer="layer2"),
    **_both("SENet154", senet(nets.SENet154), 32, True, flat=64, layer="layer2", calm=True),
    **_both(
        "EfficientNetBN",
        lambda d: nets.EfficientNetBN("efficientnet-b0", False, spatial_dims=d, in_channels=1, num_classes=3),
        32,
        False,
        flat=64,
        layer="_blocks.3",
    ),
    # With random weights a ReLU at its end leaves some channels empty.
    **_both("HighResNet", segmenter(nets.HighResNet), 8, True, flat=16, target=lambda output: output.flatten(1).sum(1)),
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
    **_both("DynUNet", dynunet, 16, False, flat=32),
    **_both("DynUNet(deep supervision)", partial(dynunet, deep=True), 16, False, flat=32),
    **_both("SegResNet", segmenter(nets.SegResNet, init_filters=8), 16, True, flat=32),
    **_both("SegResNetDS", segmenter(nets.SegResNetDS, init_filters=4), 16, True, flat=32),
    **_both(
        "SegResNetVAE",
        lambda d: nets.SegResNetVAE((16,) * d, spatial_dims=d, init_filters=8, out_channels=3),
        16,
        True,
    ),
    **_both("VNet", segmenter(nets.VNet), 16, False, flat=32),
    **_both(
        "UNETR",
        lambda d: nets.UNETR(
            1, 3, (32,) * d, feature_size=4, hidden_size=48, mlp_dim=48, num_heads=4, spatial_dims=d
        ),
        32,
        False,
    ),
    **_both("SwinUNETR", segmenter(nets.SwinUNETR, feature_size=12, window_size=4, norm_name="batch"), 32, False, target=channel(1)),
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
    **_both("ViT", vit, 32, False),
    **_both(
        "ResNetFeatures",
        lambda d: nets.ResNetFeatures("resnet10", pretrained=False, spatial_dims=d, in_channels=1),
        16,
        True,
        flat=64,
        layer="layer2",
        target=lambda output: output[-1].flatten(1).sum(1),
    ),
    **_both("AHNet", segmenter(nets.AHNet, psp_block_num=0, layers=(1, 1, 1, 1)), 32, True, flat=64),
    **_both("DenseNet(small)", lambda d: nets.DenseNet(d, 1, 3, 8, 4, (2, 2, 2)), 32, True, linear=True),
    **_both("SegResNetDS2", lambda d: nets.segresnet_ds.SegResNetDS2(d, 4, 1, 3, blocks_down=(1, 1)), 16, True,
            target=channel(1)),
    **_both("ViT(tokens)", partial(vit, classes=False), 32, False, target=lambda output: output[0][..., 0].sum(1), layer="blocks.1.norm1"),
    **_both("ViT(perceptron)", partial(vit, proj="perceptron"), 32, False, layer="blocks.1.norm1"),
    **_both(
        "ViTAutoEnc",
        lambda d: nets.ViTAutoEnc(1, (32,) * d, (16,) * d, hidden_size=24, mlp_dim=24, num_layers=2, num_heads=2, spatial_dims=d),
        32,
        False,
        target=channel(0),
    ),
    **_both("PatchDiscriminator", lambda d: nets.PatchDiscriminator(d, 4, 1, 1, 2), 32, False,
            target=lambda output: output[-1].flatten(1).sum(1)),
    "DenseNet 1D": Entry(lambda: nets.DenseNet(1, 1, 3, 8, 4, (2, 2)), (1, 64), True, linear=True),
    "UNet 1D": Entry(lambda: nets.UNet(1, 1, 3, (4, 8, 16), (2, 2)), (1, 32), False, target=channel(1)),
    "ResNet10 1D": Entry(lambda: nets.resnet10(spatial_dims=1, n_input_channels=1, num_classes=3), (1, 64), True, linear=True),
    "VISTA3D(class prompt)": Entry(
        vista3d, (1, 32, 32, 32), False, target=channel(0), kwargs={"class_vector": torch.tensor([[1]])}
    ),
    "VISTA3D(point prompt)": Entry(
        vista3d, (1, 32, 32, 32), False, target=channel(0), input="input_images",
        kwargs={"point_coords": torch.tensor([[[8.0, 9.0, 10.0]]]), "point_labels": torch.tensor([[1]])},
        dtype=torch.float32,
    ),
    "MILModel": Entry(
        # Five pictures of three channels: one sample. No layer has its axes.
        lambda: nets.MILModel(3, pretrained=False, backbone=pictures(), backbone_num_features=8),
        (5, 3, 32, 32),
        True,
        layers=False,
    ),
    "DAF3D": Entry(
        lambda: nets.DAF3D(1, 2), (1, 64, 64, 64), False, target=channel(1), needs="torchvision"
    ),
    "TorchVisionFCModel": Entry(
        lambda: nets.TorchVisionFCModel("resnet18", num_classes=3, pretrained=False),
        (3, 224, 224),
        True,
        linear=True,
        needs="torchvision",
    ),
    "TorchVisionFCModel(ViT)": Entry(
        lambda: nets.TorchVisionFCModel("vit_b_16", num_classes=3, pretrained=False, pool=None, in_channels=768, fc_name="heads.head"),
        (3, 224, 224),
        False,
        layer="features.encoder.layers.encoder_layer_11.ln_1",
        needs="torchvision",
    ),
    "MILModel(ResNet50)": Entry(
        lambda: nets.MILModel(3, pretrained=False), (2, 3, 64, 64), True, layers=False, needs="torchvision"
    ),
}  # fmt: skip


def image_of(entry: Entry, samples: int = 1) -> Tensor:
    """A seeded image of the right size."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(samples, *entry.size, generator=generator, dtype=torch.float64)
    return image.to(entry.dtype)
