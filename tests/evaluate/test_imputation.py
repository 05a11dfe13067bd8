"""Filling in: the paper's weights, a direct solver's answers, and what is known by hand."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from medsal.evaluate import impute

# Rong et al., 2022: 1/6 beside, 1/12 across the corner. In 3D the product of (1, 2, 1) goes on.
WEIGHTS = {1: {1: 1 / 2}, 2: {1: 1 / 6, 2: 1 / 12}, 3: {1: 4 / 56, 2: 2 / 56, 3: 1 / 56}}


def direct(image: Tensor, missing: Tensor, faces: bool) -> np.ndarray:
    """The sparse system written down voxel by voxel, and solved by SciPy."""
    axes, size = image.ndim - 2, image.shape[2:]
    values, gone = image[0, 0].double().numpy(), missing[0, 0].numpy()
    unknown = {tuple(voxel): i for i, voxel in enumerate(np.argwhere(gone))}
    system, right = lil_matrix((len(unknown), len(unknown))), np.zeros(len(unknown))
    for voxel, i in unknown.items():
        for step in product((-1, 0, 1), repeat=axes):
            steps = sum(map(abs, step))
            other = tuple(a + b for a, b in zip(voxel, step, strict=True))
            within = all(0 <= a < n for a, n in zip(other, size, strict=True))
            if steps == 0 or not within or (faces and steps > 1):
                continue
            weight = 1.0 if faces else WEIGHTS[axes][steps]
            system[i, i] += weight
            if other in unknown:
                system[i, unknown[other]] -= weight
            else:
                right[i] += weight * values[other]
    values[gone] = spsolve(system.tocsc(), right)
    return values


@pytest.mark.parametrize("faces", [True, False])
@pytest.mark.parametrize("size", [(30,), (9, 11), (6, 5, 7)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_it_solves_the_papers_system(size: tuple[int, ...], faces: bool, share: float) -> None:
    image, missing = torch.randn(1, 1, *size) + 20, torch.rand(1, 1, *size) < share
    filled = impute(image, missing, neighbours="faces" if faces else "all")
    np.testing.assert_allclose(filled[0, 0], direct(image, missing, faces), atol=1e-4)
    assert torch.equal(filled[~missing], image[~missing])


def test_one_voxel_is_the_weighted_mean_of_its_neighbours() -> None:
    image, missing = torch.rand(1, 1, 3, 3), torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    missing[0, 0, 1, 1] = True
    square = image[0, 0]
    beside = square[0, 1] + square[1, 0] + square[1, 2] + square[2, 1]
    across = square[0, 0] + square[0, 2] + square[2, 0] + square[2, 2]
    filled = impute(image, missing)[0, 0, 1, 1]
    torch.testing.assert_close(filled, beside / 6 + across / 12)


def test_a_ramp_is_continued_through_a_hole() -> None:
    ramp = torch.arange(12.0)[:, None, None] + torch.arange(10.0)[:, None] * 2 + torch.arange(8.0)
    missing = torch.zeros(1, 1, 12, 10, 8, dtype=torch.bool)
    missing[:, :, 3:9, 2:8, 2:6] = True
    filled = impute(ramp[None, None], missing)
    torch.testing.assert_close(filled[0, 0], ramp, atol=1e-3, rtol=1e-4)


def test_samples_and_channels_have_their_own() -> None:
    image, missing = torch.randn(3, 2, 9, 8), torch.rand(3, 1, 9, 8) < 0.6
    together = impute(image, missing)
    for i, j in product(range(3), range(2)):
        alone = impute(image[[i]][:, [j]], missing[[i]])
        torch.testing.assert_close(together[[i]][:, [j]], alone, atol=1e-4, rtol=1e-4)


def test_where_nothing_is_left_it_is_the_mean() -> None:
    image = torch.randn(2, 2, 6, 6)
    filled = impute(image, torch.ones(2, 1, 6, 6, dtype=torch.bool))
    torch.testing.assert_close(filled, image.mean((2, 3), keepdim=True).expand_as(image))


def test_noise_is_a_share_of_the_range_where_voxels_were_missing() -> None:
    image, missing = (
        torch.linspace(0, 40, 10_000).reshape(1, 1, 100, 100),
        torch.rand(1, 1, 100, 100) < 0.5,
    )
    clean, noisy = impute(image, missing), impute(image, missing, noise=0.01, seed=3)
    assert torch.equal(noisy[~missing], image[~missing])
    assert float((noisy - clean)[missing].std()) == pytest.approx(0.4, rel=0.05)
    assert torch.equal(noisy, impute(image, missing, noise=0.01, seed=3))


def test_what_does_not_fit_is_refused() -> None:
    image, missing = torch.rand(1, 2, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"of the shape \(1, 1, 4, 4\)"):
        impute(image, missing[..., :3])
    with pytest.raises(ValueError, match="bool"):
        impute(image, missing.float())
    with pytest.raises(ValueError, match="noise"):
        impute(image, missing, noise=-1)
