"""Methods by name: the one dict that everything else asks."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from medsal.probe import Probe
from medsal.types import Image, Map

Explainer = Callable[[Probe, Image], Map]
"""Anything that is called with a probe and an image ``(n, c, *s)`` and gives a map ``(n, 1,
*s)``."""


class Method:
    """A way to explain a probe at an image: a frozen value that holds its options and no model.

    Subclasses are frozen dataclasses. Called with a probe of ``t`` targets they give ``(n, t,
    *s)``.

    Attributes:
        name: the name in `METHODS`.
        source: the paper, with its equation.
        one_pass: its own first pass is of the clean image, so the predicted class is read off it.
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    one_pass: ClassVar[bool] = False

    def predict(self, probe: Probe, image: Image) -> Any:
        """The model's output at the clean image, at which targets settle; no graph is recorded."""
        return probe.output(image)

    def __call__(self, probe: Probe, image: Image) -> Map:
        raise TypeError(
            f"{type(self).__name__} does not say how to explain; define __call__(probe, image)"
        )


METHODS: dict[str, type[Method]] = {}

M = TypeVar("M", bound=type[Method])


def register(name: str) -> Callable[[M], M]:
    """Class decorator that puts a method into `METHODS`.

    Raises:
        ValueError: when the name is taken, or the class does not cite its source.
    """

    def add(cls: M) -> M:
        if name in METHODS:
            raise ValueError(
                f"expected a new method name, got {name!r}, which {METHODS[name].__name__} has"
            )
        if not cls.source:
            raise ValueError(
                f"expected {cls.__name__} to cite its source (a class attribute); got none"
            )
        cls.name = name
        METHODS[name] = cls
        return cls

    return add


def get_method(name: str, **options: Any) -> Method:
    """The method of a name, with its options.

    Raises:
        LookupError: when there is no method of that name; near ones are given.
        TypeError: when the method has no such option.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name.lower(), METHODS, n=3, cutoff=0.4) or list(METHODS)
        raise LookupError(f"medsal has no method {name!r}; near it: {', '.join(map(repr, near))}")
    known = options_of(METHODS[name])
    for option in options:
        if option not in known:
            raise TypeError(
                f"{name} has no option {option!r}; it has: {', '.join(known) or 'none'}"
            )
    return METHODS[name](**options)


def configured(
    method: str | Explainer, layer: str | Sequence[str] | None, options: Mapping[str, Any]
) -> Explainer:
    """The method that is meant: by name, or as a value, whose options may be changed.

    Raises:
        LookupError: when there is no method of that name; near ones are given.
        TypeError: for what is no method, or has no such option.
    """
    given = {**options, **({} if layer is None else {"layer": layer})}
    if isinstance(method, str):
        return get_method(method, **given)
    if not callable(method) or isinstance(method, type):
        raise TypeError(
            f"expected a method's name or a method such as medsal.GradCAM(), got {method!r}"
            + ("; call it to make one" if isinstance(method, type) else "")
        )
    if not given:
        return method
    known = options_of(type(method)) if isinstance(method, Method) else ()
    unknown = [name for name in given if name not in known]
    if unknown or not isinstance(method, Method):
        raise TypeError(
            f"{method!r} has no option {(unknown or list(given))[0]!r}; "
            f"it has: {', '.join(known) or 'none'}"
        )
    changed: Method = dataclasses.replace(method, **given)  # type: ignore[type-var]
    return changed


def maps_of(method: Explainer, probe: Probe, image: Tensor) -> Tensor:
    """The maps of all targets, ``(n, t, *s)``; a plain callable is asked for one at a time."""
    if isinstance(method, Method) or not isinstance(probe.target, tuple):
        return method(probe, image)
    single = (dataclasses.replace(probe, target=each) for each in probe.targets)
    return torch.cat([method(each, image) for each in single], 1)


def options_of(method: type) -> tuple[str, ...]:
    """The names of a method's options, or of another dataclass's."""
    return (
        tuple(f.name for f in dataclasses.fields(method) if f.init)
        if dataclasses.is_dataclass(method)
        else ()
    )
