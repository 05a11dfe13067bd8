"""Grids of every kind, and a bright spot in each."""

import numpy as np
import pytest
from handmade import ORIENTATIONS, make


@pytest.fixture(params=ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def affine(request):
    return request.param


@pytest.fixture
def spot():
    """A volume of noise with one bright voxel, off the centre on every axis, and a map of it."""

    def build(affine, shape=(11, 14, 9), at=(3, 9, 2), **fields):
        image = np.random.default_rng(0).random((1, *shape)) * 0.5
        image[(0, *at)] = 1.0
        data = np.zeros(shape)
        data[at] = 2.0
        return make(image, data, affine, **fields), np.asarray(at)

    return build
