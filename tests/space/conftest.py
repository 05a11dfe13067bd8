"""Phantoms that hide no flip: oblique, left-handed, anisotropic, asymmetric in every axis."""

import nibabel
import numpy as np
import pytest
import torch

from medsal import GradCAM, Origin, SaliencyMap
from medsal.probe import ModelCard

SHAPE = (41, 36, 25)


def oblique(spacing=(1.1, 1.3, 2.9)):
    a, b, c = 0.2, -0.15, 0.1
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = np.eye(4)
    # Left-handed: the second axis goes towards posterior.
    affine[:3, :3] = (x @ y @ z) * spacing * np.array([1, -1, 1])
    affine[:3, 3] = (-20, 31, -40)
    return affine


def lumps(shape=SHAPE):
    """A bright ellipsoid with lumps of several sizes, nowhere its own mirror image."""
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    centres = [(0, 0, 0, 0.7, 80), (0.3, 0.1, -0.2, 0.2, 90), (-0.4, 0.3, 0.3, 0.15, 120)]
    centres += [
        (0.1, -0.5, 0.2, 0.2, -60),
        (0.5, -0.2, 0.4, 0.1, 150),
        (-0.2, -0.3, -0.5, 0.12, 99),
    ]
    out = np.zeros(shape)
    for *centre, width, height in centres:
        away = sum((axis - c) ** 2 for axis, c in zip(at, centre, strict=True))
        out += height * np.exp(-away / (2 * (width / 2) ** 2))
    noise = np.random.default_rng(0).normal(0, 1, shape)
    return (out + noise).astype(np.float32)


def mm(shape, affine, direction=(0.3, -0.5, 0.7)):
    """A ramp in world space: each voxel holds a length in mm along a direction."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return (index @ affine[:3, :3].T + affine[:3, 3]) @ direction


def result_of(image, data=None, **changes):
    """A result as `medsal.explain` makes it, with the image itself as its map."""
    from medsal.origin import affine_of, origins_of

    plain = image.as_subclass(torch.Tensor)
    fields = {
        "data": (plain if data is None else data).float(),
        "image": plain,
        "output": torch.tensor([[0.2, 0.8]]),
        "target": (lambda output: output[:, 1],) * (plain if data is None else data).shape[1],
        "method": GradCAM(),
        "layer": None,
        "affine": affine_of(image),
        "cells": None,
        "seen": None,
        "origins": origins_of(image),
        "notes": (),
        "model": ModelCard("Net", 1, "0"),
    }
    return SaliencyMap(**{**fields, **changes})


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "phantom.nii.gz"
    image = nibabel.Nifti1Image(lumps(), oblique())
    image.set_qform(oblique(), 1)
    image.set_sform(oblique(), 1)
    nibabel.save(image, path)
    return path


@pytest.fixture
def make():
    """The makers, for tests in this folder."""
    from types import SimpleNamespace

    return SimpleNamespace(
        result=result_of, mm=mm, lumps=lumps, oblique=oblique, Origin=Origin, shape=SHAPE
    )
