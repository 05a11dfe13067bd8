"""Maps from many changed passes: medsal, its peers, and the passes themselves, one by one."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import medsal

if TYPE_CHECKING:
    from tests.benchmarks.cost.contenders import Case

_CLASS = 1
_MASKS = 64


def medsal_occlusion(case: "Case") -> Tensor:
    result = medsal.explain(case.net, case.image, _CLASS, "occlusion", window=case.window())
    return result.data


def monai_occlusion(case: "Case") -> Tensor:
    from monai.visualize import OcclusionSensitivity

    asked = OcclusionSensitivity(
        nn_module=case.net,
        mask_size=case.window(),
        overlap=0,
        n_batch=8,
        mode=0.0,
        activate=False,  # else of an image of one channel it takes each score's sigmoid
        verbose=False,
    )
    return -asked(case.image)[0][:, _CLASS : _CLASS + 1]


def captum_occlusion(case: "Case") -> Tensor:
    from captum.attr import Occlusion

    window = (1, *(case.window() for _ in case.image.shape[2:]))
    return Occlusion(case.net).attribute(case.image, window, strides=window, target=_CLASS)


def medsal_scorecam(case: "Case") -> Tensor:
    return medsal.explain(case.net, case.image, _CLASS, "scorecam", layer=case.layer).data


def medsal_scorecam_agreeing(case: "Case") -> Tensor:
    return medsal.explain(
        case.net, case.image, _CLASS, "scorecam", layer=case.layer, agreement=0.99
    ).data


def torchcam_scorecam(case: "Case") -> Tensor:
    from torchcam.methods import ScoreCAM

    with ScoreCAM(case.net, target_layer=case.module, batch_size=8) as cam, torch.no_grad():
        coarse = cam(_CLASS, case.net(case.image))[0]
    return medsal.ops.resize(coarse[:, None], case.image.shape[2:])


def medsal_ablation(case: "Case") -> Tensor:
    return medsal.explain(
        case.net, case.image, _CLASS, "ablationcam", layer=case.layer, divide="none"
    ).data


def ablation_in_turn(case: "Case") -> Tensor:
    """A full pass without each channel."""
    whole, activations = _scored(case, case.image, lambda x: x)
    weights = [
        whole - _scored(case, case.image, lambda x, k=k: _zeroed(x, k))[0]
        for k in range(activations.shape[1])
    ]
    coarse = torch.einsum("k,nk...->n...", torch.cat(weights), activations).relu()[:, None]
    return medsal.ops.resize(coarse, case.image.shape[2:])


def gradcam_ablation(case: "Case") -> Any:
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with AblationCAM(model=case.net, target_layers=[case.module]) as cam:
        return torch.from_numpy(cam(case.image, [ClassifierOutputTarget(_CLASS)]))


def medsal_rise(case: "Case") -> Tensor:
    return medsal.explain(case.net, case.image, _CLASS, "rise", masks=_MASKS).data


def rise_in_turn(case: "Case") -> Tensor:
    """A pass for each mask."""
    total = torch.zeros_like(case.image)
    with torch.no_grad():
        for mask in medsal.RISE(masks=_MASKS).drawn(case.image):
            total += case.net(case.image * mask)[:, _CLASS] * mask
    return total / (0.5 * _MASKS)


def _zeroed(x: Tensor, channel: int) -> Tensor:
    copy = x.clone()
    copy[:, channel] = 0
    return copy


def _scored(
    case: "Case", image: Tensor, change: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The score, with a layer changed, and the layer's output."""
    met: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        met.append(output.clone())
        return change(output)

    handle = case.module.register_forward_hook(hook)
    with torch.no_grad():
        score = case.net(image)[:, _CLASS]
    handle.remove()
    return score, met[0]
