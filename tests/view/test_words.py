"""What figures say of a target: words, no code."""

from dataclasses import replace

import pytest
import torch
from handmade import make, texts

import medsal
from medsal import ClassScore, Difference, Region
from medsal.view import montage
from medsal.view.words import explained

MASK = torch.tensor([[True, True, False]])


def volume(output):
    return output.sum(1)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (ClassScore(0), "class 0 (none)"),
        (ClassScore(2), "class 2"),
        (ClassScore((1,)), "class 1 (ring)"),
        (ClassScore((1, 3)), "classes 1 (ring), 3"),
        (ClassScore(1, activation="softmax"), "class 1 (ring), softmax"),
        (Difference(1, ClassScore(0)), "class 1 (ring) \N{MINUS SIGN} class 0 (none)"),
        (
            Difference(2, Difference(3, 4)),
            "class 2 \N{MINUS SIGN} (class 3 \N{MINUS SIGN} class 4)",
        ),
        (Region(2), "region of class 2"),
        (Region(1, MASK, activation="sigmoid"), "region of class 1 (ring), 2 voxels, sigmoid"),
        (Region(2, MASK[:, 1:]), "region of class 2, 1 voxel"),
        (Region(2, MASK, component="largest"), "largest component of class 2, 2 voxels"),
        (Region(2, MASK, component=[4]), "component at (4,) of class 2, 2 voxels"),
        (Region(2, voxel=(3, 4)), "voxel (3, 4) of class 2"),
        (volume, "volume"),
    ],
)
def test_a_target_in_words(target, words):
    assert explained(target, ["none", "ring"]) == words


@pytest.mark.parametrize(
    ("output", "index", "predicted"),
    [([[0.0, 2.0]], 1, True), ([[0.0, 2.0]], 0, False), ([[-3.0]], 0, True), ([[-3.0]], 1, False)],
)
def test_the_predicted_class_is_called_so(output, index, predicted):
    asked = ClassScore(index, activation="sigmoid")
    result = replace(
        make(torch.ones(1, 5, 5, 5), torch.ones(5, 5, 5)),
        output=torch.tensor(output),
        target=asked,
    )
    name = f"class {index} (ring), sigmoid"
    said = texts(montage(result, classes=["ring", "ring"]))
    assert f"of {'predicted ' if predicted else ''}{name} \N{MIDDLE DOT}" in said


def test_a_region_that_was_found_says_how_large_it_is():
    net = torch.nn.Conv3d(1, 2, 1)
    result = medsal.explain(net, torch.rand(1, 1, 6, 6, 6), Region(1, voxel=(1, 2, 3)), "gradient")
    said = texts(result.plot(classes=["background", "spleen"]))
    assert "Gradient of voxel (1, 2, 3) of class 1 (spleen)" in said
