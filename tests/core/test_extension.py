"""The next method: a class of five lines, or any callable."""

import doctest
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from core_nets import Nasty, image
from torch import Tensor

import medsal
from medsal import CAM, METHODS, Probe, explain, register


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.usefixtures("registry")
def test_a_cam_of_five_lines() -> None:
    @register("maxcam")
    @dataclass(frozen=True)
    class MaxCAM(CAM):
        source: ClassVar[str] = "This test."

        def weights(self, activations: Tensor, gradients: Tensor) -> Tensor:
            return gradients.flatten(2).amax(2)[(...,) + (None,) * (gradients.ndim - 2)]

    for d in (1, 2, 3):
        result = explain(Nasty(d), image(d), [0, 1], "maxcam", layer="last")
        assert result.data.shape == (2, 2, *image(d).shape[2:])
        assert result.layer == "last"
        assert "MaxCAM(layer='last'" in repr(result.method)
    with pytest.raises(ValueError, match="'maxcam', which MaxCAM has"):
        register("maxcam")(MaxCAM)


def test_what_is_no_method() -> None:
    model, x = Nasty(2), image(2)
    with pytest.raises(LookupError, match="near it: 'gradcam'"):
        explain(model, x, method="grad-cam")
    with pytest.raises(TypeError, match="no option 'steps'"):
        explain(model, x, method="gradcam", steps=3)
    with pytest.raises(TypeError, match="call it to make one"):
        explain(model, x, method=medsal.GradCAM)
    with pytest.raises(ValueError, match="cite its source"):
        register("nameless")(type("Nameless", (medsal.Method,), {}))


def first_channel(probe: Probe, x: Tensor) -> Tensor:
    return x[:, :1] * probe(x).reshape(-1, *[1] * (x.ndim - 1))


def test_any_callable() -> None:
    model, x = Nasty(2), image(2)
    result = explain(model, x, 1, first_channel)
    torch.testing.assert_close(result.data, x * result.output[:, 1, None, None, None])
    assert result.layer is None
    assert result.cells is None


def test_a_callable_is_asked_for_one_target_at_a_time() -> None:
    model, x = Nasty(2), image(2)
    both = explain(model, x, [0, 2], first_channel)
    for j, target in enumerate((0, 2)):
        assert torch.equal(both.data[:, j : j + 1], explain(model, x, target, first_channel).data)


@pytest.mark.parametrize(
    "bad",
    [
        lambda probe, x: x[:, :, 0],
        lambda probe, x: x / 0,
        lambda probe, x: torch.cat([x, x], 1),
    ],
)
def test_a_callable_that_gives_no_map(bad: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        explain(Nasty(2), image(2), 0, bad)  # type: ignore[arg-type]


def test_values_are_values() -> None:
    for cls in METHODS.values():
        assert cls() == cls()
        assert hash(cls()) == hash(cls())
        assert cls.source
        with pytest.raises(AttributeError):
            cls().layer = "x"  # type: ignore[misc]


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(sys.modules["medsal.explain"]).failed == 0
