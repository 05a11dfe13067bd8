"""Whatever happens inside, the model, the image and the random state are as before."""

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from core_nets import Nasty, image, state_of
from torch import Tensor
from torch.nn.functional import batch_norm

import medsal

CHEAP = {"steps": 4, "samples": 4, "masks": 8, "cells": 2, "batch": 8}


def options_for(name: str, d: int) -> dict[str, Any]:
    known = medsal.methods.options_of(medsal.METHODS[name])
    options = {key: value for key, value in CHEAP.items() if key in known}
    if "references" in known:
        options["references"] = torch.zeros_like(image(d))
    return options


@contextmanager
def untouched(model: torch.nn.Module, *images: Tensor) -> Iterator[None]:
    before = state_of(model)
    pictures = [
        (x, x.detach().clone(), x._version, x.requires_grad, grad_of(x), x.grad_fn) for x in images
    ]
    modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_rng_state())
    try:
        yield
    finally:
        after = state_of(model)
        for name in before:
            assert after.get(name) == before[name], name
        assert after.keys() == before.keys()
        assert torch.is_grad_enabled() == modes[0]
        assert torch.is_inference_mode_enabled() == modes[1]
        assert torch.equal(torch.get_rng_state(), modes[2])
        for x, copy, version, flag, grad, function in pictures:
            assert torch.equal(x.detach(), copy)
            assert x._version == version
            assert x.requires_grad is flag
            assert grad_of(x) is grad
            assert x.grad_fn is function
        assert not sys.modules["medsal.probe.visits.holding"]._stays


def grad_of(x: Tensor) -> Tensor | None:
    return x.grad if x.is_leaf else None


def nasty(d: int) -> Nasty:
    torch.manual_seed(7)
    model = Nasty(d)
    for i, parameter in enumerate(model.parameters()):
        if i % 2:
            parameter.grad = torch.full_like(parameter, 7.0)
    return model


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("name", sorted(medsal.METHODS))
def test_every_method_leaves_no_trace(name: str, d: int) -> None:
    model, x = nasty(d), image(d)
    with untouched(model, x):
        result = run(model, x, name, d)
    if result is not None:
        assert result.data.shape == (2, 1, *x.shape[2:])
        assert not result.data.requires_grad
        assert not result.output.requires_grad


def run(model: Nasty, x: Tensor, name: str, d: int) -> Any:
    try:
        return medsal.explain(model, x, method=name, **options_for(name, d))
    except ValueError as error:
        if name == "cam" and "as CAM is defined" in str(error):
            return None  # the network's head is none that CAM is defined for
        raise


class StopError(Exception):
    pass


@pytest.mark.parametrize("name", sorted(medsal.METHODS))
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no")], ids=repr)
def test_a_model_that_raises_midway(name: str, error: BaseException) -> None:
    model, x = nasty(2), image(2)
    model.fail = error
    with untouched(model, x), pytest.raises(type(error)):
        medsal.explain(model, x, method=name, **options_for(name, 2))


def raising(output: Tensor) -> Tensor:
    raise StopError


@pytest.mark.parametrize("name", sorted(set(medsal.METHODS) - {"eigencam"}))  # no class in it
def test_a_target_that_raises(name: str) -> None:
    model, x = nasty(2), image(2)
    with untouched(model, x), pytest.raises(StopError):
        medsal.explain(model, x, raising, method=name, **options_for(name, 2))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"layer": "lost"}, LookupError, "near it: 'last'"),
        ({"target": 3}, LookupError, "3 classes"),
        ({"target": lambda output: output}, ValueError, "one score per sample"),
        ({"target": lambda output: output[:, 0] / 0 * 0}, ValueError, "finite scores"),
        ({"layer": "again.norm"}, None, ""),
        ({"layer": "drop"}, None, ""),
        ({"layer": "head"}, ValueError, "spatial axes"),
    ],
)
def test_bad_questions(change: dict[str, Any], error: Any, said: str) -> None:
    model, x = nasty(2), image(2)
    with untouched(model, x):
        if error is None:
            medsal.explain(model, x, **change)
        else:
            with pytest.raises(error, match=said):
                medsal.explain(model, x, **change)


@pytest.mark.parametrize("method", ["gradcam", "gradient", "guided_backprop"])
def test_the_callers_tensor(method: str) -> None:
    model = nasty(2)
    leaf = image(2).requires_grad_()
    leaf.grad = torch.ones_like(leaf)
    inner = image(2).requires_grad_() * 2
    with untouched(model, leaf):
        medsal.explain(model, leaf, method=method)
    with untouched(model, inner):
        medsal.explain(model, inner, method=method)
    with torch.inference_mode():
        inferred = image(2)
    medsal.explain(model, inferred, method=method)
    assert inferred.is_inference()


class Doubling(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2)


class Writing(torch.nn.Module):
    """Writes into its input, from some call on, in one way or another."""

    def __init__(self, way: str, calls: int) -> None:
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(1, 4, 3), torch.nn.Linear(4, 2)
        self.way, self.calls, self.done = way, calls, 0
        self.script = torch.jit.script(Doubling()) if way == "script" else None
        self.places: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            self.places.append(x.data_ptr())
        self.done += 1
        if self.done >= self.calls:
            if self.way == "in place":
                x.mul_(2)
            elif self.way == "data":
                x.data.mul_(2)
            elif self.way == "numpy":
                np.multiply(x.numpy(), 2, out=x.numpy())
            elif self.way == "requires":
                x.requires_grad_()
            elif self.way == "view":
                x.flatten(1)[:, :].chunk(1)[0].div_(0.5)
            elif self.way == "operator":
                x /= 0.5
            elif self.way == "item":
                x[:] = x * 2
            elif self.way == "out":
                torch.mul(x, 2, out=x)
            elif self.way == "function":
                torch.nn.functional.threshold(x, 9, 0, inplace=True)
            elif self.way == "script":
                self.script(x)
        y = self.conv(x)
        if self.way == "saves":
            y = y * x[:, :, 1:-1, 1:-1]
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize(
    ("way", "calls", "passes"),
    [
        ("never", 9, 3),
        ("saves", 9, 3),
        ("in place", 3, 4),  # the third time it is stopped, and a copy goes in
        *(
            (way, 1, 4)  # the first time
            for way in (
                "in place",
                "data",
                "numpy",
                "view",
                "operator",
                "item",
                "out",
                "function",
                "requires",
            )
        ),
        ("script", 1, 3),
    ],
)
def test_the_image_goes_in_itself_where_it_stays_as_it_is(
    way: str, calls: int, passes: int
) -> None:
    model, x = Writing(way, calls), image(2)
    plain = Writing("never", 9)
    plain.load_state_dict(model.state_dict())
    for i in range(3):
        with untouched(model, x):
            found = medsal.explain(model, x, 0, layer="conv", signed=True)
        if way != "saves":
            factor = {"requires": 1, "function": 0}.get(way, 2) if i + 1 >= calls else 1
            wanted = medsal.explain(plain, factor * x, 0, layer="conv", signed=True)
            torch.testing.assert_close(found.data, wanted.data)
    assert model.done == passes
    lent = [place == x.data_ptr() for place in model.places[:2]]
    assert lent == [way != "script", calls > 1]


def test_what_no_call_tells_of_is_seen_afterwards() -> None:
    class Hidden(Writing):
        def forward(self, x: Tensor) -> Tensor:
            with torch._C.DisableTorchFunctionSubclass():
                x.mul_(2)  # as an extension in C++ may
            return super().forward(x)

    model, x = Hidden("never", 9), image(2)
    with pytest.raises(RuntimeError, match=r"Hidden has written into its image by code that torch"):
        medsal.explain(model, x, 0, layer="conv")
    before = x.clone()
    medsal.explain(model, x, 0, layer="conv")
    assert torch.equal(x, before)


def test_a_network_that_hands_its_input_on() -> None:
    class Both(Writing):
        def forward(self, x: Tensor) -> Any:
            return {"logits": super().forward(x), "image": x, "part": [x[:, :, 1:]]}

    model, x = Both("never", 9), image(2)
    result = medsal.explain(model, x, lambda output: output["logits"][:, 0], layer="conv")
    result.output["image"].zero_()
    result.output["part"][0].zero_()
    assert type(result.output["image"]) is Tensor
    assert bool(x.all())


def test_a_buffer_with_a_gradient_and_tensors_as_attributes() -> None:
    model, x = nasty(2), image(2)
    model.block.register_buffer("scale", torch.ones(1, requires_grad=True))
    model.block.plain = torch.ones(1)
    old = model.block.forward
    model.block.forward = lambda x: old(x) * model.block.scale * model.block.plain.add_(0)
    with untouched(model, x):
        medsal.explain(model, x)
        medsal.explain(model, x, method="gradient")


def test_weight_norm_and_spectral_norm() -> None:
    model, x = nasty(2), image(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(model.stem)
    torch.nn.utils.spectral_norm(model.last)
    torch.nn.utils.parametrizations.weight_norm(model.block.first)
    torch.nn.utils.parametrizations.spectral_norm(model.head)
    model(x.clone())
    for method in ("gradcam", "guided_backprop"):
        with untouched(model, x):
            medsal.explain(model, x, method=method)


def test_a_method_that_draws_random_numbers() -> None:
    def noise(probe: medsal.Probe, x: Tensor) -> Tensor:
        return torch.randn_like(x[:, :1])

    model, x = nasty(2), image(2)
    with untouched(model, x):
        a = medsal.explain(model, x, method=noise)
    assert torch.equal(a.data, medsal.explain(model, x, method=noise).data)


class Normalises(torch.nn.Module):
    """Normalises by each batch, and writes what it saw down, in evaluation mode as well."""

    def __init__(self, by_mode: bool) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)
        self.head, self.by_mode = torch.nn.Linear(4, 3), by_mode

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        norm = self.norm
        if self.by_mode:
            x = norm.train()(x)
        else:
            x = batch_norm(
                x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=True
            )
        return self.head(x.relu().mean((2, 3)))


@pytest.mark.parametrize("by_mode", [True, False])
@pytest.mark.parametrize("name", ["gradcam", "guided_backprop", "occlusion"])
def test_a_network_that_writes_to_torchs_own_modules(name: str, by_mode: bool) -> None:
    model, x = Normalises(by_mode).eval(), image(2)
    with untouched(model, x):
        medsal.explain(model, x, 0, name, **options_for(name, 2))


class Strange(torch.nn.Sequential):
    """More happens in `eval` than the mode's change."""

    def eval(self) -> "Strange":
        raise AssertionError("eval() was called")

    def train(self, mode: bool = True) -> "Strange":
        raise AssertionError("train() was called")


def test_networks_with_an_eval_of_their_own() -> None:
    model = Strange(
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.BatchNorm2d(2),
        torch.nn.ReLU(),
        Mean(),
        torch.nn.Linear(2, 2),
    )
    x = image(2)
    with untouched(model, x):
        medsal.explain(model, x, method="guided_gradcam")


class Mean(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


@pytest.mark.parametrize("affine", [True, False])
def test_a_lazy_network_is_refused_and_one_that_was_run_is_not(affine: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Without weights of its own, a lazy batch norm still lacks its statistics.
        last = torch.nn.LazyBatchNorm2d(affine=affine), Mean()
        model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), *last)
    with pytest.raises(ValueError, match="run Sequential once"):
        medsal.explain(model, image(2))
    model(image(2))
    with untouched(model):
        medsal.explain(model, image(2))


def test_parameters_made_in_inference_mode() -> None:
    with torch.inference_mode():
        model = nasty(2)
    x = image(2)
    torch.manual_seed(7)
    ordinary = nasty(2)
    for name in ("gradcam", "gradient", "guided_backprop"):
        result = medsal.explain(model, x, method=name)
        torch.testing.assert_close(result.data, medsal.explain(ordinary, x, method=name).data)
    assert all(each.is_inference() for each in model.parameters())
    assert model.head.weight.requires_grad


@pytest.mark.parametrize("ambient", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", sorted(medsal.METHODS))
def test_the_same_under_any_grad_mode(name: str, ambient: Callable[[], Any]) -> None:
    model, x = nasty(2), image(2)
    usual = run(model, x, name, 2)
    with ambient(), untouched(model, x):
        result = run(model, x, name, 2)
    if usual is not None:
        assert torch.equal(result.data, usual.data)
        assert not result.data.is_inference()
        assert not result.output.is_inference()


@pytest.mark.parametrize("name", ["gradcam", "gradient", "guided_backprop"])
def test_the_same_in_train_mode_and_frozen(name: str) -> None:
    model, x = nasty(3), image(3)
    usual = medsal.explain(model, x, method=name).data
    model.eval()
    assert torch.equal(medsal.explain(model, x, method=name).data, usual)
    model.requires_grad_(False)
    assert torch.equal(medsal.explain(model, x, method=name).data, usual)


@pytest.mark.parametrize("name", sorted(medsal.METHODS))
def test_samples_of_a_batch_do_not_mix(name: str) -> None:
    model, x = nasty(2).double(), image(2, n=3, dtype=torch.float64)
    options = options_for(name, 2)
    if {"references", "samples", "masks"} & set(options):
        pytest.skip("draws for the batch")
    together = run(model, x, name, 2)
    if together is None:
        return
    for i in range(3):
        alone = medsal.explain(model, x[i : i + 1], method=name, **options)
        torch.testing.assert_close(together.data[i : i + 1], alone.data, rtol=1e-5, atol=1e-9)
        assert repr(together[i].target) == repr(alone.target)


def test_no_tensor_is_refused_with_a_clear_text() -> None:
    # In a process of its own: here the annotations are checked before.
    code = """
import medsal, torch
for bad in (torch.ones(1, 1, 8, 8).numpy(), [[1.0]], "scan.nii"):
    try:
        medsal.explain(torch.nn.Conv2d(1, 2, 3), bad)
    except TypeError as error:
        assert f"torch tensor or MetaTensor, got {type(bad).__name__}" in str(error), error
    else:
        raise SystemExit(1)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_the_image_is_refused_with_a_clear_text() -> None:
    model, x = nasty(3), image(3)
    for bad, error, said in (
        ((x * 255).to(torch.uint8), TypeError, "uint8"),
        (x[0], ValueError, r"image\[None\]"),
        (x[:0], ValueError, "shape"),
        (x[:, :, None, None], ValueError, "shape"),
        (x.clone().fill_(np.nan), ValueError, "NaN"),
        (x / 0, ValueError, "infinite"),
    ):
        before = state_of(model)
        with pytest.raises(error, match=said):
            medsal.explain(model, bad)  # type: ignore[arg-type]
        assert state_of(model) == before
