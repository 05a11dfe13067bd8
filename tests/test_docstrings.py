"""The examples in the docstrings run, and say what they say."""

import doctest
import importlib
import pkgutil

import pytest

import medsal

MODULES = sorted(
    each.name
    for each in pkgutil.walk_packages(medsal.__path__, "medsal.")
    # A script that runs inside 3D Slicer imports what is there alone.
    if not each.name.endswith(("__main__", "view_in_slicer"))
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.failed == 0


def test_the_verb_has_one() -> None:
    assert doctest.testmod(importlib.import_module("medsal.explain")).attempted > 2
