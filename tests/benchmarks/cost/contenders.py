"""What is measured: medsal and its peers, each used as its own README says."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.nets import (
    DenseNet121,
    EfficientNetBN,
    SegResNet,
    SEResNet50,
    UNet,
    resnet18,
    resnet50,
)
from torch import Tensor, nn

import medsal
from tests.benchmarks.cost import perturbed

CLASS = 1
CLASSES = 8
NETS: dict[str, tuple[int, Callable[[], nn.Module], str]] = {
    "ResNet18": (3, lambda: resnet18(n_input_channels=1, num_classes=CLASSES), "layer4"),
    "ResNet18 stem 2": (
        3,
        lambda: resnet18(n_input_channels=1, num_classes=CLASSES, conv1_t_stride=2),
        "layer4",
    ),
    "DenseNet121": (3, lambda: DenseNet121(3, 1, CLASSES), "features"),
    "ResNet18 2D": (
        2,
        lambda: resnet18(spatial_dims=2, n_input_channels=1, num_classes=CLASSES),
        "layer4",
    ),
    "DenseNet121 2D": (2, lambda: DenseNet121(2, 1, CLASSES), "features"),
    "ResNet50 stem 2": (
        3,
        lambda: resnet50(n_input_channels=1, num_classes=CLASSES, conv1_t_stride=2),
        "layer4",
    ),
    "SEResNet50": (
        3,
        lambda: SEResNet50(spatial_dims=3, in_channels=1, num_classes=CLASSES),
        "layer4",
    ),
    "ResNet50 2D": (
        2,
        lambda: resnet50(spatial_dims=2, n_input_channels=1, num_classes=CLASSES),
        "layer4",
    ),
    "EfficientNet-B0 2D": (
        2,
        lambda: EfficientNetBN(
            "efficientnet-b0", False, spatial_dims=2, in_channels=1, num_classes=CLASSES
        ),
        "_conv_head",
    ),
    "UNet": (
        3,
        lambda: UNet(
            3, 1, CLASSES, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch"
        ),
        "model.2.0",
    ),
    "SegResNet": (
        3,
        lambda: SegResNet(spatial_dims=3, in_channels=1, out_channels=CLASSES),
        "act_mod",
    ),
}
# What is measured unless networks are named. ResNet18 with a stem that keeps every voxel takes
# hours.
USUAL = ("ResNet18 stem 2", "DenseNet121", "ResNet18 2D", "DenseNet121 2D")


class Case:
    """A network and an image on a device."""

    def __init__(self, net: str, shape: Sequence[int], device: str = "cpu") -> None:
        _, build, self.layer = NETS[net]
        torch.manual_seed(0)
        self.net = build().to(device).eval()
        self.image = torch.randn(1, 1, *shape, device=device)
        self.last: tuple[nn.Module, Tensor] | None = None
        self.module = self.net.get_submodule(self.layer)

    def window(self) -> int:
        return self.image.shape[-1] // 4


def forward(case: Case) -> Any:
    with torch.no_grad():
        return case.net(case.image)


def own(method: str, target: Any = CLASS, **options: Any) -> Callable[[Case], Tensor]:
    return lambda case: medsal.explain(case.net, case.image, target, method, **options).data


def monai_gradcam(case: Case) -> Tensor:
    from monai.visualize import GradCAM

    return GradCAM(nn_module=case.net, target_layers=case.layer)(x=case.image, class_idx=CLASS)


def monai_gradcam_of_each_class(case: Case) -> Tensor:
    from monai.visualize import GradCAM

    cam = GradCAM(nn_module=case.net, target_layers=case.layer)
    return torch.cat([cam(x=case.image, class_idx=each) for each in range(CLASSES)], 1)


def monai_guided(case: Case) -> Tensor:
    from monai.visualize import GuidedBackpropGrad

    return GuidedBackpropGrad(case.net)(case.image, index=CLASS)


def captum_gradcam(case: Case) -> Tensor:
    from captum.attr import LayerAttribution, LayerGradCam

    mode = "trilinear" if case.image.ndim == 5 else "bilinear"
    coarse = LayerGradCam(case.net, case.module).attribute(case.image, target=CLASS)
    return LayerAttribution.interpolate(coarse, case.image.shape[2:], mode).relu()


def captum_guided(case: Case) -> Tensor:
    from captum.attr import GuidedBackprop

    return GuidedBackprop(case.net).attribute(case.image, target=CLASS)


def torchcam_gradcam(case: Case) -> Tensor:
    from torchcam.methods import GradCAM

    with GradCAM(case.net, target_layer=case.module) as cam:
        return cam(CLASS, case.net(case.image))[0]


def gradcam_gradcam(case: Case) -> Any:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model=case.net, target_layers=[case.module]) as cam:
        return torch.from_numpy(cam(case.image, [ClassifierOutputTarget(CLASS)]))


def gradcam_guided(case: Case) -> Any:
    from pytorch_grad_cam import GuidedBackpropReLUModel

    device = case.image.device
    return GuidedBackpropReLUModel(case.net, device)(case.image, target_category=CLASS)


def medcam_gradcam(case: Case) -> Any:
    from medcam import medcam

    return medcam.inject(case.net, layer=case.layer, label=CLASS, return_attention=True)(case.image)


def medcam_guided(case: Case) -> Any:
    from medcam import medcam

    return medcam.inject(case.net, backend="gbp", label=CLASS, return_attention=True)(case.image)


def in_bfloat16(run: Callable[[Case], Tensor]) -> Callable[[Case], Tensor]:
    """The same under autocast."""

    def half(case: Case) -> Tensor:
        with torch.autocast(case.image.device.type, torch.bfloat16):
            return run(case)

    return half


def channels_last(case: Case) -> Tensor:
    if case.last is None:
        layout = torch.channels_last_3d if case.image.ndim == 5 else torch.channels_last
        case.last = (
            copy.deepcopy(case.net).to(memory_format=layout),
            case.image.to(memory_format=layout),
        )
    return medsal.explain(*case.last, CLASS).data


# A whole scan, and the networks whose forward pass fits into a workstation.
CT, CT_SHAPE = "Grad-CAM of a whole CT", (512, 512, 300)
CT_NETS = ("ResNet18 stem 2", "DenseNet121")
# Maps of hundreds of passes are measured at a smaller size; those of many at one size for all.
HUNDREDS = {"Score-CAM", "Ablation-CAM", "RISE"}
MANY = HUNDREDS | {"occlusion", "occlusion beside captum"}
# For each thing that is measured: what it is held against first, then the others.
RUNS: dict[str, dict[str, Callable[[Case], Any]]] = {
    "Grad-CAM": {
        "forward pass": forward,
        "medsal": own("gradcam"),
        "captum": captum_gradcam,
        "torchcam": torchcam_gradcam,
        "MONAI": monai_gradcam,
        "grad-cam": gradcam_gradcam,
        "medcam": medcam_gradcam,
    },
    CT: {
        "forward pass": forward,
        "medsal": own("gradcam"),
        "captum": captum_gradcam,
        "torchcam": torchcam_gradcam,
        "MONAI": monai_gradcam,
    },
    f"Grad-CAM of {CLASSES} classes": {
        "medsal, one class": own("gradcam"),
        "medsal": own("gradcam", list(range(CLASSES))),
        "MONAI": monai_gradcam_of_each_class,
    },
    "guided backpropagation": {
        "forward pass": forward,
        "medsal": own("guided_backprop"),
        "MONAI": monai_guided,
        "captum": captum_guided,
        "grad-cam": gradcam_guided,
        "medcam": medcam_guided,
    },
    "occlusion": {
        "MONAI": perturbed.monai_occlusion,
        "medsal": perturbed.medsal_occlusion,
        "medsal, bfloat16": in_bfloat16(perturbed.medsal_occlusion),
        "captum": perturbed.captum_occlusion,
    },
    "occlusion beside captum": {
        "captum": perturbed.captum_occlusion,
        "medsal": perturbed.medsal_occlusion,
    },
    "Score-CAM": {
        "torchcam": perturbed.torchcam_scorecam,
        "medsal": perturbed.medsal_scorecam,
        "medsal, agreement=0.99": perturbed.medsal_scorecam_agreeing,
        "medsal, bfloat16": in_bfloat16(perturbed.medsal_scorecam),
    },
    "Ablation-CAM": {
        "passes in full": perturbed.ablation_in_turn,
        "medsal": perturbed.medsal_ablation,
        "grad-cam": perturbed.gradcam_ablation,
    },
    "RISE": {
        "passes one by one": perturbed.rise_in_turn,
        "medsal": perturbed.medsal_rise,
        "medsal, bfloat16": in_bfloat16(perturbed.medsal_rise),
    },
    "switches": {
        "medsal": own("gradcam"),
        "medsal, bfloat16": in_bfloat16(own("gradcam")),
        "medsal, channels last": channels_last,
    },
}
# What the packages themselves take.
IMPORT = "import"
# Where each contender comes from: what pip calls it, what its README imports.
MODULES = {
    "medsal": ("medsal", "medsal"),
    "MONAI": ("monai", "monai.visualize"),
    "captum": ("captum", "captum.attr"),
    "torchcam": ("torchcam", "torchcam.methods"),
    "grad-cam": ("grad-cam", "pytorch_grad_cam"),
    "medcam": ("medcam", "medcam.medcam"),
}
