"""What other libraries do in the cases that the README names: `python tests/peers`.

Each is used as its README says, on small 3D networks. A library that is not installed is left out.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import medsal

Maps = Callable[..., Any]
CLASS = 1


class Net(nn.Module):
    """Two convolutions and a linear head; what follows the layer may work in place."""

    def __init__(self, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 6, 3, padding=1)
        self.act = act()
        self.layer = nn.Conv3d(6, 8, 3, stride=2, padding=1)
        self.last = act()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.layer(self.act(self.first(x))))
        return self.fc(x.square().flatten(2).mean(2))


class Functional(Net):
    """The same with the activation as a function."""

    def __init__(self) -> None:
        super().__init__(nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.first(x).relu()).relu()
        return self.fc(x.square().flatten(2).mean(2))


def made(net: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return net().eval()


def image(n: int = 1) -> Tensor:
    return torch.randn(n, 1, 12, 12, 12, generator=torch.Generator().manual_seed(1))


def plain_gradient(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, CLASS].sum(), x)
    return gradient


# Grad-CAM at `layer`, and Guided Backpropagation, as each library gives them.
def of_medsal() -> dict[str, Maps]:
    return {
        "cam": lambda m, x, c: medsal.explain(m, x, c, layer="layer").data,
        "guided": lambda m, x: medsal.explain(m, x, CLASS, "guided_backprop").data,
    }


def of_monai() -> dict[str, Maps]:
    from monai.visualize import GradCAM, GuidedBackpropGrad

    return {
        "cam": lambda m, x, c: GradCAM(m, "layer")(x, c),
        "guided": lambda m, x: GuidedBackpropGrad(m)(x, index=CLASS),
    }


def of_captum() -> dict[str, Maps]:
    from captum.attr import GuidedBackprop, LayerGradCam

    def cam(m: Any, x: Tensor, c: int | None) -> Tensor:
        target = m(x).argmax(1) if c is None else c
        return LayerGradCam(m, m.layer).attribute(x, target, relu_attributions=True)

    return {"cam": cam, "guided": lambda m, x: GuidedBackprop(m).attribute(x, CLASS)}


def of_torchcam() -> dict[str, Maps]:
    from torchcam.methods import GradCAM

    def cam(m: Any, x: Tensor, c: int | None) -> Tensor:
        with GradCAM(m, "layer", input_shape=(1, 12, 12, 12)) as extractor:
            scores = m(x)
            return extractor(scores.argmax(1).tolist() if c is None else c, scores)[0][:, None]

    return {"cam": cam}


def of_gradcam() -> dict[str, Maps]:
    from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def cam(m: Any, x: Tensor, c: int | None) -> Tensor:
        targets = None if c is None else [ClassifierOutputTarget(c) for _ in x]
        with GradCAM(m, [m.layer]) as extractor:
            return torch.as_tensor(extractor(x, targets))[:, None]

    def guided(m: Any, x: Tensor) -> Tensor:
        return torch.as_tensor(GuidedBackpropReLUModel(m, "cpu")(x, CLASS))

    return {"cam": cam, "guided": guided}


def of_medcam() -> dict[str, Maps]:
    from medcam import medcam

    def asked(m: Any, x: Tensor, backend: str, label: Any) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            injected = medcam.inject(
                m, folder, backend, "layer", label=label, return_attention=True, save_maps=False
            )
            return torch.as_tensor(injected(x)[1])

    return {
        "cam": lambda m, x, c: asked(m, x, "gcam", "best" if c is None else c),
        "guided": lambda m, x: asked(m, x, "gbp", CLASS),
    }


LIBRARIES = {
    "medsal": of_medsal,
    "MONAI": of_monai,
    "captum": of_captum,
    "torchcam": of_torchcam,
    "grad-cam": of_gradcam,
    "M3d-Cam": of_medcam,
}


def scaled(found: Any, size: tuple[int, ...] | None = None) -> Tensor:
    """A map from 0 to 1, on a grid: libraries differ in what they rescale, and when."""
    found = torch.as_tensor(found).detach().float()
    if size and tuple(found.shape[2:]) != size:
        found = nn.functional.interpolate(found, size, mode="trilinear")
    low, high = found.flatten(1).amin(1), found.flatten(1).amax(1)
    wide = (-1,) + (1,) * (found.ndim - 1)
    return (found - low.view(wide)) / (high - low).clamp(min=1e-30).view(wide)


def alike(one: Any, other: Any) -> bool:
    """Whether two maps are the same up to their scale; those on a layer's grid are enlarged."""
    first, second = (scaled(each, (12, 12, 12)) for each in (one, other))
    return first.shape == second.shape and torch.allclose(first, second, atol=1e-3)


def answered(same: bool) -> str:
    return "yes" if same else "no"


def upright(of: dict[str, Maps]) -> str:
    """Large where Grad-CAM is large."""
    model = made(lambda: Net(nn.ReLU))
    maps = [each["cam"](model, image(), CLASS) for each in (of, of_medsal())]
    pair = torch.stack([scaled(each, (12, 12, 12)).flatten() for each in maps])
    return answered(bool(torch.corrcoef(pair)[0, 1] > 0))


def samples_apart(of: dict[str, Maps]) -> str:
    """The predicted class of each sample of a batch: as of each sample alone."""
    model: Any = made(lambda: Net(nn.ReLU))
    batch = image(3) * torch.tensor([0.1, 0.1, 10.0]).view(3, 1, 1, 1, 1)
    with torch.no_grad():
        # What is weakest in the strong image wins in the faint ones: not all are of one class.
        strong = model(batch)[2]
        model.fc.bias[strong.argmin()] += (strong.max() - strong.min()) / 2
    together = torch.as_tensor(of["cam"](model, batch, None))
    alone = [torch.as_tensor(of["cam"](model, each[None], None)) for each in batch]
    same = len(together) == 3 and all(
        alike(a[None], b) for a, b in zip(together, alone, strict=True)
    )
    return answered(same)


def in_place(of: dict[str, Maps]) -> str:
    """A layer before an in-place ReLU: as before an ordinary one."""
    maps = [
        of["cam"](made(lambda inplace=inplace: Net(lambda: nn.ReLU(inplace))), image(), CLASS)
        for inplace in (True, False)
    ]
    return answered(alike(*maps))


def frozen(of: dict[str, Maps]) -> str:
    """Grad-CAM of a frozen network, as it is kept for inference, under no_grad."""
    model = made(lambda: Net(nn.ReLU)).requires_grad_(False)
    with torch.no_grad():
        found = of["cam"](model, image(), CLASS)
    return answered(alike(found, of["cam"](made(lambda: Net(nn.ReLU)), image(), CLASS)))


def guided(of: dict[str, Maps], net: Callable[[], nn.Module]) -> str:
    """Guided Backpropagation is something else than the plain gradient, or says that it can't."""
    if "guided" not in of:
        return "-"
    model = made(net)
    gradient = plain_gradient(copy.deepcopy(model), image())
    try:
        found = torch.as_tensor(of["guided"](model, image())).detach()
    except ValueError as error:
        if "ReLU" not in str(error):
            raise
        return f"refuses: {str(error)[:40]}..."
    return "no: the plain gradient" if alike(found, gradient) else "yes"


def without_trace(of: dict[str, Maps]) -> str:
    """Hooks, gradients, modes and flags of the model are as before."""
    model = made(lambda: Net(lambda: nn.ReLU(inplace=False))).train()
    model.first.eval()
    before = [module.training for module in model.modules()]
    of["cam"](model, image(), CLASS)
    left = []
    if any(m._forward_hooks or m._backward_hooks for m in model.modules()):
        left.append("hooks")
    if any(p.grad is not None for p in model.parameters()):
        left.append(".grad")
    if before != [module.training for module in model.modules()]:
        left.append("modes")
    return f"no: {', '.join(left)}" if left else "yes"


def resnet() -> nn.Module:
    from monai.networks.nets import resnet10

    return resnet10(spatial_dims=3, n_input_channels=1, num_classes=3, conv1_t_stride=1)


QUESTIONS: dict[str, Callable[[dict[str, Maps]], str]] = {
    "the map is large where Grad-CAM is": upright,
    "samples of a batch stay apart": samples_apart,
    "right before an in-place ReLU": in_place,
    "on a frozen network, under no_grad": frozen,
    "the model stays as it was": without_trace,
    "guided backprop on MONAI's ResNet": lambda of: guided(of, resnet),
    "guided backprop of functional ReLUs": lambda of: guided(of, Functional),
    "guided backprop with LeakyReLU": lambda of: guided(of, lambda: Net(nn.LeakyReLU)),
}


def main() -> None:
    """Print a line for each question and library."""
    warnings.simplefilter("ignore")
    for name, library in LIBRARIES.items():
        try:
            of = library()
        except ImportError as error:
            print(f"{name}: not installed ({error})\n")
            continue
        print(name)
        for question, ask in QUESTIONS.items():
            try:
                answer = ask(of)
            except Exception as error:
                answer = f"raises {type(error).__name__}: {str(error).partition(chr(10))[0][:60]}"
            print(f"  {question:38} {answer}")
        print()


if __name__ == "__main__":
    main()
