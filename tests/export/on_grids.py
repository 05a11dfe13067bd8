"""Scans and maps made by hand, asymmetric in every axis, on grids that readers get wrong."""

import numpy as np
import torch

from medsal import GradCAM, HiResCAM, SaliencyMap
from medsal.origin import Origin
from medsal.probe import ModelCard
from medsal.targets import ClassScore

SHAPE = (30, 24, 17)
PEAK, VALLEY = (21, 6, 5), (8, 17, 12)


def turned(zooms, degrees=(12, -9, 20), order=(0, 1, 2), shear=0.0):
    a, b, c = np.radians(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (x @ y @ z)[:, order] * zooms
    affine[:3, 2] += shear * affine[:3, 1]
    affine[:3, 3] = (-31, 22, 47)
    return affine


GRIDS = {
    "straight": turned((2.0, 2.0, 2.0), (0, 0, 0)),
    "oblique": turned((1.2, 0.8, 3.1)),
    "left-handed": turned((-1.2, 0.8, 3.1)),
    "permuted": turned((1.1, -2.3, -0.9), order=(2, 0, 1)),
    "sheared": turned((1.2, 1.1, 3.1), shear=0.4),
}


def blob(centre, width):
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")).astype(float)
    away = ((at - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0)
    return np.exp(-away / (2 * width**2))


def scan():
    head = 90 * blob((14, 12, 8), 8) + 60 * blob((20, 7, 6), 3) + 30 * blob((6, 17, 11), 3)
    return (head + 5 * np.random.default_rng(3).random(SHAPE)).astype(np.float32)


def speaking():
    """A map that speaks for its target."""
    return (0.8 * blob(PEAK, 2.5) + 0.3 * blob((9, 18, 12), 2)).astype(np.float32)


def signed():
    return (0.8 * blob(PEAK, 2.5) - 0.5 * blob(VALLEY, 2)).astype(np.float32)


def result(affine, *maps, path=None, method=None, image=None):
    """A result at home on the grid: one sample, a target for each map."""
    affine = torch.from_numpy(affine.copy())
    data = np.stack(maps)
    image = scan()[None] if image is None else image
    negative = bool((data < 0).any())
    return SaliencyMap(
        data=torch.from_numpy(data)[None],
        image=torch.from_numpy(image)[None],
        output=torch.tensor([[0.1, 0.7, 0.2]]),
        target=tuple(ClassScore(i) for i in range(len(maps))),
        method=method or (HiResCAM() if negative else GradCAM()),
        layer="features",
        affine=affine,
        cells=(4, 4, 4),
        seen=torch.ones(1, 1, *data.shape[1:], dtype=torch.bool),
        origins=(Origin(path=path, affine=affine, shape=tuple(data.shape[1:])),),
        notes=(),
        model=ModelCard("Net", 1, "00"),
    )


def place(affine, index):
    return (affine @ [*index, 1])[:3]
