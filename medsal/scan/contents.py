"""What every reader gives, and the affine that all of them speak."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Contents(NamedTuple):
    """A file's voxels `(c, *s)`, its affine (voxel -> RAS mm) and remarks about the file."""

    data: Float32[np.ndarray, "c *s"]
    affine: Float[np.ndarray, "4 4"]
    notes: tuple[str, ...]


def itk_affine(image: Any) -> Float[np.ndarray, "4 4"]:
    """The affine (voxel -> RAS mm) of a SimpleITK image of two or three axes, shear included."""
    axes = image.GetDimension()
    affine = np.eye(4)
    affine[:axes, :axes] = np.array(image.GetDirection()).reshape(axes, axes) * image.GetSpacing()
    affine[:axes, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def one_line(error: BaseException) -> str:
    """The last line that a library's exception says, without its own file names and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rsplit("): ", 1)[-1] if lines else type(error).__name__
