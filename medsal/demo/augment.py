"""Hard augmentation of a head: another shape, another scanner, another protocol.

Everything acts on `(x, y, z)` float tensors whose brain has a median near 1, and draws from an
explicit generator. What is drawn here is the same for every class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from medsal.demo.lesions import noise, uniform


def chance(g: Generator, probability: float) -> bool:
    """Return True with this probability."""
    return uniform(g, 0, 1) < probability


def dress(g: Generator, image: Tensor, outside: Tensor, bare: bool, mm: float) -> Tensor:
    """Return the image with another scalp: stripped, made up, or of another brightness.

    Args:
        g: what to draw from.
        image: `(x, y, z)`, median of the brain 1.
        outside: `(x, y, z)`, distance from the brain [mm].
        bare: the image shows a brain alone; so bone and scalp are made up.
        mm: edge of a voxel [mm].
    """
    shape = image.shape
    if chance(g, 0.3):
        return image * (outside < 1.5 * mm)
    if not bare:
        gain = uniform(g, 0.6, 2.0) * (1 + 0.15 * noise(g, shape, 16 / mm))
        return torch.where(outside > 3, image * gain, image)
    bone = uniform(g, 4, 9) * (1 + 0.2 * noise(g, shape, 20 / mm))
    scalp = bone + uniform(g, 3, 8) * (1 + 0.2 * noise(g, shape, 16 / mm))
    fat = torch.sigmoid(outside - bone) * torch.sigmoid(scalp - outside)
    fat = fat * uniform(g, 0.8, 2.2) * (1 + 0.25 * noise(g, shape, 10 / mm))
    # The template has no fluid between brain and bone.
    fluid = uniform(g, 0.05, 0.4) * torch.sigmoid(bone - outside)
    return torch.where(outside > 0.5, fat.clamp(min=0) + fluid, image)


def move(
    g: Generator,
    volumes: Tensor,
    shape: Sequence[int],
    at: Tensor,
    strength: float = 1.0,
    mirror: float = 0.5,
) -> Tensor:
    """Turn, scale, mirror and bend `(k, x, y, z)` volumes, all alike.

    Args:
        g: what to draw from.
        volumes: what to move.
        shape: shape of the result, `(k, *shape)`, in the same voxels.
        at: `(3,)`, the voxel of `volumes` that comes into the middle of the result.
        strength: 1 for hard augmentation, 0 for none but the mirroring.
        mirror: how often left and right change places.
    """
    old = torch.tensor([float(n) for n in volumes.shape[1:]])
    new = torch.tensor([float(n) for n in shape])
    angle = torch.randn(3, generator=g) * 0.14 * strength
    skew = torch.zeros(3, 3)
    skew[0, 1], skew[0, 2], skew[1, 2] = angle[0], angle[1], angle[2]
    matrix = torch.linalg.matrix_exp(skew - skew.T)
    scale = 1 + (torch.rand(3, generator=g) * 0.3 - 0.15) * strength
    matrix = matrix * scale + torch.randn(3, 3, generator=g) * 0.03 * strength
    if chance(g, mirror):
        matrix[:, 0] *= -1
    # grid_sample wants the last axis first, in units of half the size.
    theta = (matrix * new[None, :] / old[:, None]).flip(0, 1)
    middle = (2 * (at + 0.5) / old - 1).flip(0)
    grid = F.affine_grid(torch.cat([theta, middle[:, None]], 1)[None], [1, 1, *shape], False)
    bend = [1.7 * strength * noise(g, shape, 19) / 1.5 for _ in range(3)]
    grid = grid + torch.stack([2 * b / n for b, n in zip(bend, old, strict=True)][::-1], -1)
    return F.grid_sample(volumes[None], grid, align_corners=False)[0]


def recolour(g: Generator, image: Tensor) -> Tensor:
    """Change the contrast between tissues by a random curve that keeps their order."""
    steps = torch.exp(0.7 * torch.randn(12, generator=g))
    steps[3:5] *= uniform(g, 0.25, 1.2)  # between grey and white matter
    steps[5:7] *= 0.5  # brightest white matter, so that it does not outshine a lesion
    curve = torch.cat([torch.zeros(1), steps.cumsum(0)])
    curve = curve / curve[5]
    at = (image * 5).clamp(0, 11.999)
    low = at.long()
    return curve[low] + (curve[low + 1] - curve[low]) * (at - low)


def distract(g: Generator, image: Tensor, brain: Tensor, mm: float) -> Tensor:
    """Add what enhances without being a lesion: vessels, and the meninges at the surface."""
    if chance(g, 0.6):
        cell, width = uniform(g, 18, 30) / mm, uniform(g, 0.05, 0.11)
        apart = noise(g, image.shape, cell) ** 2 + noise(g, image.shape, cell) ** 2
        image = image + uniform(g, 0.2, 0.8) * torch.exp(-apart / (2 * width**2)) * brain
    if chance(g, 0.4):
        soft = F.avg_pool3d(brain[None, None], 3, 1, 1)[0, 0]
        patchy = (0.5 + noise(g, image.shape, 25 / mm)).clamp(0, 1)
        image = image + uniform(g, 0.1, 0.5) * 4 * soft * (1 - soft) * patchy
    return image


def scan(g: Generator, image: Tensor, mm: float, thickest: float) -> Tensor:
    """Scan it: bias field, gamma, blur, noise, slices up to `thickest` mm."""
    bias = uniform(g, 0, 0.3) * noise(g, image.shape, uniform(g, 60, 140) / mm)
    image = image.clamp(min=0) * torch.exp(bias.clamp(-0.6, 0.6))
    image = image ** uniform(g, 0.8, 1.25)
    if chance(g, 0.3):
        image = blur(image, uniform(g, 0.3, 0.8))
    level, early = uniform(g, 0, 0.05), chance(g, 0.5)
    if early:
        image = grain(g, image, level)
    if chance(g, 0.6):
        axis = int(torch.randint(3, (), generator=g))
        image = slices(image, axis, uniform(g, mm, max(thickest, mm + 0.1)) / mm)
    if not early:
        image = grain(g, image, level * 0.7)
    return image


def grain(g: Generator, image: Tensor, level: float) -> Tensor:
    """Add Rician noise of standard deviation `level`."""
    real = image + level * torch.randn(image.shape, generator=g)
    return torch.hypot(real, level * torch.randn(image.shape, generator=g))


def slices(image: Tensor, axis: int, thickness: float) -> Tensor:
    """Average into slices of `thickness` voxels along `axis`, and interpolate back."""
    sizes = list(image.shape)
    thin = sizes[axis]
    sizes[axis] = max(round(thin / thickness), 2)
    kernel = max(round(thickness), 1) | 1
    widths = [1, 1, 1]
    widths[axis] = kernel
    pads = [w // 2 for w in widths]
    smooth = F.avg_pool3d(image[None, None], widths, 1, pads, count_include_pad=False)
    thick = F.interpolate(smooth, sizes, mode="trilinear", align_corners=False)
    back = F.interpolate(thick, list(image.shape), mode="trilinear", align_corners=False)
    return back[0, 0]


def blur(image: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian of `sigma` voxels."""
    line = torch.exp(-0.5 * (torch.arange(-2, 3) / sigma) ** 2)
    line = line / line.sum()
    out = image[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 5
        pad = [2 if a == axis else 0 for a in range(3)]
        out = F.conv3d(out, line.view(shape), padding=pad)
    return out[0, 0]


def crop_view(g: Generator, image: Tensor, keep: Tensor, mm: float) -> Tensor:
    """Blank slices at the top or the bottom, as short fields of view do; never those in `keep`."""
    if chance(g, 0.6):
        return image
    lengths = keep.any(0).any(0).nonzero()
    low, high = int(lengths.min()), int(lengths.max())
    image = image.clone()
    image[..., : min(int(uniform(g, 0, 40) / mm), max(low - 4, 0))] = 0
    image[..., max(image.shape[2] - int(uniform(g, 0, 30) / mm), high + 5) :] = 0
    return image
