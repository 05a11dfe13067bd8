"""Results made by hand, so that what a figure must show is known."""

from dataclasses import replace

import numpy as np
import torch

from medsal import GradCAM, SaliencyMap
from medsal.origin import Origin
from medsal.probe import ModelCard
from medsal.targets import ClassScore


def make(image, data, affine=None, **fields):
    """A result of one sample: image (c, *s), data (*s)."""
    affine = None if affine is None else torch.as_tensor(np.asarray(affine)).double()
    result = SaliencyMap(
        data=torch.as_tensor(np.ascontiguousarray(data)).float()[None, None],
        image=torch.as_tensor(np.ascontiguousarray(image)).float()[None],
        output=torch.zeros(1, 2),
        target=ClassScore(1),
        method=GradCAM(),
        layer="features.norm5",
        affine=affine,
        cells=None,
        seen=None,
        origins=(Origin(path="/data/sub-01_T1w.nii.gz", affine=affine),),
        notes=(),
        model=ModelCard(name="DenseNet121", parameters=1, sha256="00"),
    )
    return replace(result, **fields)


def texts(figure):
    """All that is written on a figure."""
    found = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(found)


def image_of(axes, label):
    """The image artist of that name in some axes."""
    return next(artist for artist in axes.images if artist.get_label() == label)


def panels(figure):
    return [axes for axes in figure.axes if axes.images and axes.images[0].get_label() == "image"]


def rotation(x, y, z):
    """Turns about the three axes [degrees]."""
    a, b, c = np.radians([x, y, z])
    rx = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    ry = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    rz = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    return np.array(rx) @ np.array(ry) @ np.array(rz)


def affine_of(axes, signs, zooms=(0.8, 1.3, 3.0), turn=(0, 0, 0), origin=(-20.0, 35.0, -70.0)):
    """An affine whose array axis i runs along patient axis axes[i], with a sign."""
    matrix = np.zeros((3, 3))
    for i, (axis, sign, zoom) in enumerate(zip(axes, signs, zooms, strict=True)):
        matrix[axis, i] = sign * zoom
    affine = np.eye(4)
    affine[:3, :3] = rotation(*turn) @ matrix
    affine[:3, 3] = origin
    return affine


ORIENTATIONS = {
    "RAS": affine_of((0, 1, 2), (1, 1, 1)),
    "LPS": affine_of((0, 1, 2), (-1, -1, 1)),
    "left-handed": affine_of((0, 1, 2), (-1, 1, 1)),
    "permuted": affine_of((2, 0, 1), (1, -1, 1)),
    "sagittal, left-handed": affine_of((1, 2, 0), (-1, -1, 1)),
    "oblique": affine_of((0, 1, 2), (1, -1, 1), turn=(12, -9, 20)),
    "oblique, permuted, left-handed": affine_of((1, 2, 0), (1, -1, 1), turn=(25, 14, -8)),
}
